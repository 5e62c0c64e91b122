"""What the display receives and requests: frames, status, labels and boxes while somebody watches,
and the restorer's diagnostics, tasks and switch."""

from __future__ import annotations

import importlib
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool

from unirestore_ros.display.overlay import read_area, read_boxes
from unirestore_ros.display.parameters import DisplayParameters
from unirestore_ros.display.selection import StatusReport
from unirestore_ros.display.sources import BufferedFrame, Sources
from unirestore_ros.msgs.ages import AgeClock
from unirestore_ros.msgs.camera_frame import CameraFrame, CameraTraits, read_frame
from unirestore_ros.msgs.cdr import MalformedMessage, UnsupportedFrame, view_image
from unirestore_ros.msgs.subscribing import OnDemandSubscription, surviving
from unirestore_ros.node.diagnostics import AGE_NOTE
from unirestore_ros.node.fallback import Mode

_LOG_EVERY_S = 5.0
_KEPT_ARRIVALS = 64
_MODES = {mode.value: mode for mode in Mode}
_SILENT_AFTER_S = 3.0
_ANSWER_WITHIN_S = 5.0
_FEATURES = "/features"
# In these the first bytes of a publisher's identifier are its process's, the last the topic's.
_DDS = ("rmw_fastrtps_cpp", "rmw_fastrtps_dynamic_cpp", "rmw_cyclonedds_cpp")
_PARTICIPANT_BYTES = 12


class Inputs:
    """Subscribe, read what arrives and add it to the sources, then call ``changed``.

    For the ROS thread.
    """

    def __init__(
        self,
        node: Node,
        parameters: DisplayParameters,
        sources: Sources,
        changed: Callable[[], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """``on_error`` is called with what reading a message raises that nobody foresaw."""
        self._on_error = on_error
        self.parameters = parameters
        """Replaced as a whole when one changes."""
        self.last_report = StatusReport(None)
        """What the restorer said about its latest frame."""
        self.restorers = 0
        """How many nodes publish the restorer's image."""
        self._node = node
        self._logger = node.get_logger()
        # The restorer's frames come later by what restoring takes, which is no clock's fault: the
        # camera's own tell whether its clock is the node's.
        self._ages = AgeClock(node.get_clock(), self._logger, parameters.max_age_ms)
        self._camera = CameraTraits(parameters.assume_encoding)
        self._camera_arrivals: OrderedDict[int, float] = OrderedDict()
        self._sources = sources
        self._changed = changed
        self._frame_count = 0
        self._wanted = False
        self._compressed = parameters.input_transport == "compressed"
        self._topics = self._make_topics(node, parameters)

    def update(self, wanted: bool) -> None:
        """Subscribe or unsubscribe as needed; call it some times a second.

        ``wanted``: somebody watches the display.
        """
        if wanted and not self._wanted:
            self._sources.reset()
            self._camera_arrivals.clear()
        self._wanted = wanted
        self.restorers = self._node.count_publishers(self._restored)
        for topic in self._topics:
            topic.update(wanted)

    def close(self) -> None:
        for topic in self._topics:
            topic.close()

    def _make_topics(self, node: Node, parameters: DisplayParameters) -> list[OnDemandSubscription]:
        kind, suffix = (CompressedImage, "/compressed") if self._compressed else (Image, "")
        restorer = parameters.restorer
        # image_transport derives the compressed name from the resolved one, so after remapping.
        camera = node.resolve_topic_name("image") + suffix
        self._restored = restored = node.resolve_topic_name(f"{restorer}/image{suffix}")
        # Type, topic, callback, and whether the callback takes serialized messages.
        inputs: list[tuple[type, str, Callable[..., None], bool]] = [
            (kind, camera, self._receive_camera_frame, True),
            (kind, restored, self._receive_restored_frame, True),
            (DiagnosticArray, f"{restorer}/status", self._receive_status, False),
        ]
        if parameters.segmentation:
            inputs.append((Image, f"{parameters.segmentation}/labels", self._receive_labels, True))
        if parameters.detection and (markers := _marker_array()) is not None:
            inputs.append((markers, f"{parameters.detection}/markers", self._receive_boxes, False))
        reliability = parameters.input_reliability
        return [
            OnDemandSubscription(
                node,
                kind,
                node.resolve_topic_name(topic),
                surviving(callback, self._on_error),
                reliability,
                raw,
            )
            for kind, topic, callback, raw in inputs
        ]

    def _receive_camera_frame(self, message: bytes) -> None:
        frame = self._read_frame(message)
        if frame is None:
            return
        self._ages.max_age_s = self.parameters.max_age_ms * 1e-3
        self._ages.observe(frame)
        self._camera_arrivals[frame.stamp_ns] = frame.arrived
        captured = frame.arrived - self._age_s(frame)
        while len(self._camera_arrivals) > _KEPT_ARRIVALS:
            self._camera_arrivals.popitem(last=False)
        self._add(BufferedFrame(frame, captured, self._age_note()), self._sources.add_camera_frame)

    def _receive_restored_frame(self, message: bytes, info: Mapping[str, Any]) -> None:
        frame = self._read_frame(message)
        if frame is None:
            return
        note, captured = self._age_note(), frame.arrived - self._age_s(frame)
        if note:  # it was made from a frame that arrived before it
            captured = self._camera_arrivals.get(frame.stamp_ns, captured)
        publisher = process_of(info)
        self._add(
            BufferedFrame(frame, captured, note),
            lambda each: self._sources.add_restored_frame(each, publisher),
        )

    def _read_frame(self, message: bytes) -> CameraFrame | None:
        """Read a frame that has just arrived; None where it is malformed, and that is said."""
        self._frame_count += 1
        arrived = time.monotonic()
        try:
            return read_frame(message, self._compressed, arrived, self._frame_count, self._camera)
        except MalformedMessage as error:
            why = f"a malformed image: {error}"
            self._warn(why)
            self._sources.add_malformed(why)
            self._changed()
            return None

    def _add(self, frame: BufferedFrame, add: Callable[[BufferedFrame], None]) -> None:
        if frame.refused is not None:
            self._warn(f"an image that cannot be shown: {frame.refused}")
            add = self._sources.add_refused_frame
        add(frame)
        self._changed()

    def _age_s(self, frame: CameraFrame) -> float:
        """Age at arrival, in seconds; 0 where it is unknown."""
        return 0.0 if self._age_note() else self._ages.age_s(frame)

    def _age_note(self) -> str:
        """What is said where the age of frames is unknown, here or to the restorer; else empty."""
        if not self._camera_arrivals:
            return self.last_report.age_note
        if self._ages.has_stamps:
            return self._ages.note or ""
        return f"{self._ages.note}, frames are paired by order"

    def _receive_status(self, message: DiagnosticArray, info: Mapping[str, Any]) -> None:
        publisher = process_of(info)
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            mode = _MODES.get(values.get("mode", ""))
            # In restored mode the message is the mode's name, which the display shows anyway.
            note = values.get(AGE_NOTE, "")
            reason = status.message.removesuffix(f"; {note}") if mode is Mode.CAMERA else ""
            report = StatusReport(mode, reason, note)
            if self.restorers > 1 and not publisher:
                why = f"{self.restorers} nodes publish {self._restored}"
                report = StatusReport(None, why, note)
            self.last_report = report
            stamp = message.header.stamp
            self._sources.add_report(stamp.sec * 10**9 + stamp.nanosec, report, publisher)
            self._changed()

    def _receive_labels(self, message: bytes) -> None:
        try:
            area = read_area(view_image(message), self.parameters.drivable_class)
        except (MalformedMessage, UnsupportedFrame) as error:
            self._warn(f"labels that cannot be shown: {error}")
            return
        self._sources.add_area(area)
        self._changed()

    def _receive_boxes(self, message: Any) -> None:
        if (boxes := read_boxes(message.markers)) is not None:
            if boxes.refused:
                self._warn(f"{boxes.refused} boxes left out: a corner is not a place in an image")
            self._sources.add_boxes(boxes)
            self._changed()

    def _warn(self, text: str) -> None:
        self._logger.warning(text, throttle_duration_sec=_LOG_EVERY_S)


def process_of(info: Mapping[str, Any]) -> bytes:
    """Return what identifies the process that sent a message; empty where ROS does not say (before
    Kilted), or says it in another form."""
    identifier = info.get("publisher_gid")
    if not identifier or identifier["implementation_identifier"] not in _DDS:
        return b""
    return bytes(identifier["data"][:_PARTICIPANT_BYTES])


def _marker_array() -> Any:
    """Import `visualization_msgs/MarkerArray`; None where that package is not installed."""
    try:
        return importlib.import_module("visualization_msgs.msg").MarkerArray
    except ModuleNotFoundError:
        return None


class RestorerClient:
    """The restorer's diagnostics and tasks, and requests to switch it on or off.

    For the ROS thread, except `request_enabled`.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        notify: Callable[[str], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """``notify`` receives messages for the viewer when a request fails, ``on_error`` what
        reading a message raises that nobody foresaw."""
        self.name: str = node.resolve_topic_name(name)
        """With its namespace."""
        self._node = node
        self._notify = notify
        self._values: dict[str, str] = {}
        self._received_at = -_SILENT_AFTER_S
        # A page may send requests at any rate: the newest is kept, and one call is in progress.
        self._requests: deque[bool] = deque(maxlen=1)
        self._call: Future[SetBool.Response] | None = None
        self._called_at = 0.0
        self._set_enabled: Client = node.create_client(SetBool, f"{self.name}/set_enabled")
        receive = surviving(self._receive_diagnostics, on_error)
        node.create_subscription(DiagnosticArray, "/diagnostics", receive, 10)

    def values(self) -> dict[str, str]:
        """Return its diagnostics and their ``message``; empty after some seconds of silence."""
        return self._values if time.monotonic() - self._received_at < _SILENT_AFTER_S else {}

    def tasks(self) -> dict[str, bool]:
        """Return its machine tasks, and whether anybody subscribes to their features: otherwise
        they are not computed."""
        start = self.name + "/"
        topics = [name for name, _ in self._node.get_topic_names_and_types()]
        return {
            topic[len(start) : -len(_FEATURES)]: self._node.count_subscribers(topic) > 0
            for topic in sorted(topics)
            if topic.startswith(start) and topic.endswith(_FEATURES)
        }

    def request_enabled(self, enabled: bool) -> None:
        """Have `send_request` switch it on or off; from any thread. The newest request counts."""
        self._requests.append(enabled)

    def send_request(self) -> None:
        """Call the service if there is a request and no call in progress; to be called often."""
        if self._call is not None and not self._call.done():
            if time.monotonic() - self._called_at < _ANSWER_WITHIN_S:
                return
            self._set_enabled.remove_pending_request(self._call)
            self._notify(f"{self.name} has not answered in {_ANSWER_WITHIN_S:.0f} s")
        self._call = None
        if not self._requests:
            return
        enabled = self._requests.pop()
        if not self._set_enabled.service_is_ready():
            self._notify(f"{self.name} does not answer: is restore_node running?")
            return
        self._called_at = time.monotonic()
        self._call = self._set_enabled.call_async(SetBool.Request(data=enabled))
        self._call.add_done_callback(self._receive_answer)

    def _receive_answer(self, call: Future[SetBool.Response]) -> None:
        answer = call.result()
        if answer is not None and not answer.success:
            self._notify(f"{self.name}: {answer.message}")

    def _receive_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self.name:
                self._values = {pair.key: pair.value for pair in status.values}
                self._values["message"] = status.message
                self._received_at = time.monotonic()
