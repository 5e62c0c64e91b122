"""Restored mode: what is made of a frame when its turn comes, in the one thread that infers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from sensor_msgs.msg import CameraInfo

from unirestore_ros.engine import Engine
from unirestore_ros.msgs.camera_frame import CameraFrame
from unirestore_ros.msgs.camera_info import ScaledInfo, with_header
from unirestore_ros.msgs.cdr import Bytes
from unirestore_ros.msgs.image_conversion import Pixels, ScratchImage
from unirestore_ros.msgs.picture import Picture, feature_message
from unirestore_ros.msgs.publishing import Topic
from unirestore_ros.node.bundle_holder import DRIVERS_TASK
from unirestore_ros.node.outputs import Demand, Outputs, TaskDemand


class Sender(ABC):
    """Sends what is made of one frame, or keeps it back where the driver sees the camera's."""

    @abstractmethod
    def output(self, topic: Topic, message: Bytes) -> None:
        """Send an image or features."""

    @abstractmethod
    def info(self, topic: Topic, message: CameraInfo) -> None:
        """Send what the network had no part in."""


@dataclass(frozen=True)
class Turn:
    """A frame whose turn it is, and what is wanted of it."""

    frame: CameraFrame
    demand: Demand
    info: CameraInfo | None
    """The camera's latest."""
    jpeg_quality: int
    send: Sender


class Restorer:
    """Runs the network once a frame, and of it only what makes something that is subscribed to."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self._rgb = ScratchImage()
        self._bgr = ScratchImage()
        self._infos = {task: ScaledInfo() for task in outputs.tasks}

    def restore(self, engine: Engine, turn: Turn) -> None:
        """The driver's picture goes out first, then features, then the tasks' images.

        MalformedMessage where the frame does not decode, InferenceError where the network fails.
        """
        frame, demand = turn.frame, turn.demand
        if demand.frames:
            engine.run_trunk(frame.rgb(self._rgb.of(frame.height, frame.width)))
        if demand.picture:
            self._send_picture(turn, engine.decode(DRIVERS_TASK))
        if demand.camera_info and turn.info is not None:
            turn.send.info(self._outputs.camera_info, with_header(turn.info, frame.header()))
        tasks = {task: wanted for task, wanted in demand.tasks.items() if task in engine.tasks}
        for task, wanted in tasks.items():
            self._send_features(engine, turn, task, wanted)
        for task, wanted in tasks.items():
            topic = self._outputs.tasks[task].image
            if wanted.image and topic is not None:
                turn.send.output(topic, _picture(frame, engine.decode(task)).message)

    def _send_picture(self, turn: Turn, restored: Pixels) -> None:
        picture = _picture(turn.frame, restored)
        if turn.demand.image:
            turn.send.output(self._outputs.image, picture.message)
        if turn.demand.compressed:
            jpeg = picture.jpeg(turn.jpeg_quality, self._bgr)
            turn.send.output(self._outputs.compressed, jpeg)

    def _send_features(self, engine: Engine, turn: Turn, task: str, wanted: TaskDemand) -> None:
        frame, topics = turn.frame, self._outputs.tasks[task]
        if wanted.features:
            turn.send.output(topics.features, feature_message(frame, engine.adapt(task)))
        if wanted.camera_info and turn.info is not None:
            height, width, _ = engine.feature_shape
            image_size, map_size = (frame.width, frame.height), (width, height)
            scaled = self._infos[task].of(turn.info, image_size, map_size)
            turn.send.info(topics.camera_info, with_header(scaled, frame.header()))


def _picture(frame: CameraFrame, restored: Pixels) -> Picture:
    picture = Picture(frame)
    frame.write_restored(restored, picture.pixels)
    return picture
