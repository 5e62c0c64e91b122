"""The topics that the display listens to, while somebody looks at it."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

from unirestore_ros.display.frames import Held
from unirestore_ros.display.overlay import read_area, read_boxes
from unirestore_ros.display.parameters import DisplayParameters
from unirestore_ros.display.selection import Verdict
from unirestore_ros.display.sources import Sources
from unirestore_ros.msgs.camera_frame import CameraFrame, read_frame
from unirestore_ros.msgs.cdr import view_image
from unirestore_ros.msgs.errors import MalformedMessage, UnsupportedFrame
from unirestore_ros.msgs.subscribing import OnDemandSubscription
from unirestore_ros.node.mode import Mode
from unirestore_ros.node.report import AgeClock

_LOG_EVERY_S = 5.0
_MODES = {mode.value: mode for mode in Mode}


class Inputs:
    """Subscribes, reads what comes and puts it into the sources. Calls ``changed`` after each
    message. For ROS's thread."""

    def __init__(
        self,
        node: Node,
        parameters: DisplayParameters,
        sources: Sources,
        changed: Callable[[], None],
    ) -> None:
        self.parameters = parameters
        """Replaced as a whole when one changes."""
        self.told = Verdict(None)
        """What the restorer last said."""
        self._logger = node.get_logger()
        self._ages = AgeClock(node.get_clock(), self._logger)
        self._sources = sources
        self._changed = changed
        self._numbers = 0
        self._wanted = False
        self._topics = self._make_topics(node, parameters)

    def update(self, wanted: bool) -> None:
        """To be called some times a second; ``wanted``: somebody looks."""
        if wanted and not self._wanted:
            self._sources.forget()
        self._wanted = wanted
        for topic in self._topics:
            topic.update(wanted)

    def close(self) -> None:
        for topic in self._topics:
            topic.close()

    def _make_topics(self, node: Node, parameters: DisplayParameters) -> list[OnDemandSubscription]:
        compressed = parameters.input_transport == "compressed"
        kind, suffix = (CompressedImage, "/compressed") if compressed else (Image, "")
        camera = node.resolve_topic_name("image") + suffix
        restored = f"{parameters.restorer}/image{suffix}"
        listened = [
            (kind, camera, self._hear_camera, True),
            (kind, restored, self._hear_restored, True),
            (DiagnosticArray, f"{parameters.restorer}/status", self._hear_status, False),
        ]
        if parameters.segmentation:
            labels = f"{parameters.segmentation}/labels"
            listened.append((Image, labels, self._hear_labels, True))
        if parameters.detection and (markers := _marker_array()) is not None:
            topic = f"{parameters.detection}/markers"
            listened.append((markers, topic, self._hear_markers, False))
        reliability = parameters.input_reliability
        return [
            OnDemandSubscription(node, kind, node.resolve_topic_name(topic), hear, reliability, raw)
            for kind, topic, hear, raw in listened
        ]

    def _hear_camera(self, message: bytes) -> None:
        if (held := self._read(message)) is not None:
            self._sources.camera_frame(held)
            self._changed()

    def _hear_restored(self, message: bytes) -> None:
        if (held := self._read(message)) is not None:
            self._sources.restored_frame(held)
            self._changed()

    def _read(self, message: bytes) -> Held | None:
        """None where the frame cannot be shown, which is logged."""
        compressed = self.parameters.input_transport == "compressed"
        arrived = time.monotonic()
        self._numbers += 1
        try:
            frame: CameraFrame = read_frame(message, compressed, arrived, self._numbers)
        except MalformedMessage as error:
            self._warn(f"a malformed image: {error}")
            return None
        if frame.unfit is not None:
            self._warn(f"an image that cannot be shown: {frame.unfit}")
            return None
        return Held(frame, arrived - self._ages.age_s(frame))

    def _hear_status(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            mode = _MODES.get(values.get("mode", ""))
            # In restored mode the message is the mode's name, which the sign says already.
            reason = status.message if mode is Mode.CAMERA else ""
            self.told = Verdict(mode, reason)
            stamp = message.header.stamp
            self._sources.status(stamp.sec * 10**9 + stamp.nanosec, self.told)
            self._changed()

    def _hear_labels(self, message: bytes) -> None:
        try:
            area = read_area(view_image(message), self.parameters.drivable_class)
        except (MalformedMessage, UnsupportedFrame) as error:
            self._warn(f"labels that cannot be shown: {error}")
            return
        self._sources.add_area(area)
        self._changed()

    def _hear_markers(self, message: Any) -> None:
        boxes = read_boxes(message.markers)
        if boxes is not None:
            self._sources.add_boxes(boxes)
            self._changed()

    def _warn(self, words: str) -> None:
        self._logger.warning(words, throttle_duration_sec=_LOG_EVERY_S)


def _marker_array() -> Any:
    """`visualization_msgs/MarkerArray`; None where that package is not installed, as on a ROS that
    holds the core only."""
    try:
        return importlib.import_module("visualization_msgs.msg").MarkerArray
    except ModuleNotFoundError:
        return None
