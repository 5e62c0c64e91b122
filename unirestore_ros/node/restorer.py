"""Restored mode: what is made of a frame when its turn comes, in the one thread that infers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from sensor_msgs.msg import CameraInfo

from unirestore_ros.engine import Engine
from unirestore_ros.msgs.camera_frame import CameraFrame
from unirestore_ros.msgs.cdr import Bytes
from unirestore_ros.msgs.encodings import Pixels
from unirestore_ros.msgs.frame_messages import FrameMessages, Picture
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
        self._make = FrameMessages()

    def restore(self, engine: Engine, turn: Turn) -> None:
        """The driver's picture goes out first, then features, then the tasks' images.

        MalformedMessage where the frame does not decode, InferenceError where the network fails.
        """
        frame, demand = turn.frame, turn.demand
        if demand.frames:
            engine.run_trunk(self._make.rgb(frame))
        if demand.picture:
            self._send_picture(turn, engine.decode(DRIVERS_TASK))
        if demand.camera_info and turn.info is not None:
            turn.send.info(self._outputs.camera_info, self._make.camera_info(frame, turn.info))
        tasks = {task: wanted for task, wanted in demand.tasks.items() if task in engine.tasks}
        for task, wanted in tasks.items():
            self._send_features(engine, turn, task, wanted)
        for task, wanted in tasks.items():
            topic = self._outputs.tasks[task].image
            if wanted.image and topic is not None:
                turn.send.output(topic, Picture(frame, engine.decode(task)).message)

    def _send_picture(self, turn: Turn, restored: Pixels) -> None:
        picture = Picture(turn.frame, restored)
        if turn.demand.image:
            turn.send.output(self._outputs.image, picture.message)
        if turn.demand.compressed:
            jpeg = self._make.jpeg(picture, turn.jpeg_quality)
            turn.send.output(self._outputs.compressed, jpeg)

    def _send_features(self, engine: Engine, turn: Turn, task: str, wanted: TaskDemand) -> None:
        frame, topics = turn.frame, self._outputs.tasks[task]
        if wanted.features:
            turn.send.output(topics.features, self._make.features(frame, engine.adapt(task)))
        if wanted.camera_info and turn.info is not None:
            height, width, _ = engine.feature_shape
            info = self._make.feature_info(frame, turn.info, (width, height))
            turn.send.info(topics.camera_info, info)
