"""What the example heads share: parameters, reading features, and a node that runs the bundle's
head for a task."""

from __future__ import annotations

import dataclasses
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from unirestore_ros.engine import BundleError, InferenceError
from unirestore_ros.engine.bundle import find_bundle, read_bundle, retry_if_replaced
from unirestore_ros.engine.head import Array, Head
from unirestore_ros.engine.working_size import MOST_SIDE, FrameSizes, Size
from unirestore_ros.msgs.parameter_struct import (
    Change,
    NodeParameters,
    ParameterRefused,
    parameter,
)
from unirestore_ros.msgs.subscribing import OnDemandSubscription
from unirestore_ros.node.process import run_command

OUTPUT_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
_UPDATE_EVERY_S = 0.5
_LOG_EVERY_S = 5.0
_ENCODING = re.compile(r"32FC([1-9]\d{0,3})")
_PIXELS = re.compile(r"[0-9]{1,5}")
_STATUS_WITHIN_S = 1.0
_MAX_UNMATCHED = 4
"""Messages of one kind that are kept until the other of their frame is there."""


def stamp_of(message: Image | DiagnosticArray) -> int:
    """Return the stamp of a message's header in nanoseconds."""
    return int(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)


def keep(unmatched: OrderedDict, stamp: int, item: object) -> None:
    """Add an item, and drop the oldest, whose other half never came."""
    unmatched[stamp] = item
    while len(unmatched) > _MAX_UNMATCHED:
        unmatched.popitem(last=False)


def read_features(message: Image) -> Array:
    """Read a message of encoding ``32FC<c>`` as (h, w, c) float32, contiguous.

    It is the message's own memory where rows have no padding and the bytes are in this machine's
    order, else a copy. ValueError where the message is no feature map, or is cut short.
    """
    encoding = _ENCODING.fullmatch(message.encoding)
    if encoding is None:
        raise ValueError(f"encoding {message.encoding!r} is not that of a feature map, 32FC<c>")
    height, width, channels = message.height, message.width, int(encoding[1])
    row_bytes = 4 * channels * width
    if message.step < row_bytes or len(message.data) < message.step * height:
        raise ValueError(
            f"{len(message.data)} bytes with a step of {message.step} are no"
            f" {width}x{height} {message.encoding}"
        )
    dtype = np.dtype(np.float32).newbyteorder(">" if message.is_bigendian else "<")
    strides = (message.step, 4 * channels, 4)
    features = np.ndarray((height, width, channels), dtype, message.data, 0, strides)
    return np.ascontiguousarray(features, np.float32)


@dataclasses.dataclass(frozen=True)
class HeadParameters(NodeParameters):
    """Parameters that every head has."""

    bundle: str = parameter(
        "tiny",
        "Folder of the engine bundle that restore_node runs, or the name of a shipped one",
        Change.AT_START,
    )
    threads: int = parameter(
        1,
        "CPU threads of the head; 0: one for each physical core",
        Change.AT_START,
        lowest=0,
        highest=256,
    )
    input_reliability: str = parameter(
        "auto",
        "QoS of the features; auto: reliable if every publisher offers it, else best effort",
        Change.AT_START,
        choices=("auto", "reliable", "best_effort"),
    )


class HeadNode(Node):
    """Runs the bundle's head for a task on each feature map.

    It subscribes only while somebody subscribes to its outputs: features without a subscriber are
    not computed.
    """

    def __init__(self, name: str, task: str, parameters: HeadParameters) -> None:
        super().__init__(name)
        type(parameters).declare(self)
        self.settings: Any = type(parameters).read(self)
        self.add_on_set_parameters_callback(self._on_parameters)
        folder = find_bundle(self.settings.bundle)
        bundle = retry_if_replaced(folder, lambda: read_bundle(folder))
        self.head = Head(bundle, task, self.settings.threads)
        self._outputs: list[Publisher] = []
        self._features = self.input(f"unirestore/{task}/features", self._on_message)
        self._camera_info = self.input(
            self.beside_features("camera_info"), self._on_camera_info, CameraInfo
        )
        self._info_size: Size | None = None
        # Many cameras send no CameraInfo; the node's status gives the size of every frame.
        self._status = self.input(self.beside_features("status"), self._on_status, DiagnosticArray)
        self._status_sizes: OrderedDict[int, Size | None] = OrderedDict()  # by stamp
        self._waiting: Image | None = None
        self._waiting_since: float | None = None
        # Not on the node's clock, which stands still while a simulation is paused.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_UPDATE_EVERY_S, self.update_subscriptions, clock=clock)
        self.get_logger().info(f"{len(self.head.classes)} classes of {folder}, for {task}")

    def on_features(self, message: Image, outputs: dict[str, Array]) -> None:
        """Publish what the head's outputs say about the frame; subclasses write this."""
        raise NotImplementedError

    def input(
        self, topic: str, callback: Callable[[Any], None], kind: type = Image
    ) -> OnDemandSubscription:
        """Make a subscription that exists while its ``update(True)`` says so."""
        name = self.resolve_topic_name(topic)
        reliability = self.settings.input_reliability
        return OnDemandSubscription(self, kind, name, callback, reliability, raw=False)

    def beside_features(self, topic: str) -> str:
        """Return the topic of this name of the node whose features these are, which may have been
        remapped, unless the topic itself was."""
        features, suffix = self._features.topic, f"/{self.head.task}/features"
        own = f"unirestore/{topic}"
        is_remapped = self.resolve_topic_name(own) != self.resolve_topic_name(own, only_expand=True)
        if is_remapped or not features.endswith(suffix):
            return own
        return f"{features.removesuffix(suffix)}/{topic}"

    def frame_sizes(self, features: Image) -> FrameSizes:
        """Return the camera's image size and how the feature map lies on it.

        The size is what the node's status of the frame says; without it, that of the camera's
        CameraInfo; without one, that at which the network works.
        """
        manifest = self.head.manifest
        stride = manifest.stride
        working = features.width * stride, features.height * stride
        size = self._status_sizes.get(stamp_of(features)) or self._info_size or working
        try:
            sizes = manifest.sizes.sizes_for(size)
        except ValueError:
            sizes = None
        if sizes is None or sizes.feature_size(stride) != (features.width, features.height):
            return FrameSizes(size, working, working)
        return sizes

    def _on_status(self, message: DiagnosticArray) -> None:
        """Take the frame's size, which a node of an earlier version does not say, and read the
        features that waited for it."""
        values = {pair.key: pair.value for each in message.status for pair in each.values}
        width, height = values.get("width", ""), values.get("height", "")
        is_size = _PIXELS.fullmatch(width) and _PIXELS.fullmatch(height)
        size = _possible_size(int(width), int(height)) if is_size else None
        keep(self._status_sizes, stamp_of(message), size)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._on_message(waiting)

    def _on_camera_info(self, info: CameraInfo) -> None:
        width, height = info.roi.width or info.width, info.roi.height or info.height
        self._info_size = _possible_size(
            width // max(info.binning_x, 1), height // max(info.binning_y, 1)
        )

    def output(self, kind: type, topic: str) -> Publisher:
        publisher: Publisher = self.create_publisher(kind, f"~/{topic}", OUTPUT_QOS)
        self._outputs.append(publisher)
        return publisher

    def update_subscriptions(self) -> None:
        """Subscribe or unsubscribe, as subscribers and publishers have come and gone."""
        wanted = any(publisher.get_subscription_count() for publisher in self._outputs)
        self._features.update(wanted)
        self._camera_info.update(wanted)
        self._status.update(wanted)
        if not self._status.is_open:
            self._status_sizes.clear()
            self._waiting = self._waiting_since = None
        if wanted and not self._features.is_open:
            self.get_logger().warning(
                f"nobody publishes {self._features.topic}: start restore_node, with the task among"
                " its `tasks`, or remap",
                throttle_duration_sec=_LOG_EVERY_S,
            )

    def _on_message(self, message: Image) -> None:
        if self._awaits_status(message):
            self._waiting = message
            return
        try:
            outputs = self.head.run(read_features(message))
        except (ValueError, InferenceError) as error:
            # No feature map, that of another bundle, or a failure in this frame: the next one may
            # be sound.
            self.get_logger().error(str(error), throttle_duration_sec=_LOG_EVERY_S)
            return
        if not all(np.isfinite(array).all() for array in outputs.values()):
            text = f"what {self.head.task} makes of the features is not finite: nothing published"
            self.get_logger().error(text, throttle_duration_sec=_LOG_EVERY_S)
            return
        self.on_features(message, outputs)

    def _awaits_status(self, features: Image) -> bool:
        """Tell whether the frame's status is still on its way: features may come before it. Where
        none has come for a second, none is waited for."""
        if not self._status.is_open or stamp_of(features) in self._status_sizes:
            self._waiting_since = None
            return False
        now = time.monotonic()
        if self._waiting_since is None:
            self._waiting_since = now
        return now - self._waiting_since < _STATUS_WITHIN_S

    def _on_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            self.settings = self.settings.changed(changes)
        except ParameterRefused as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def _possible_size(width: int, height: int) -> Size | None:
    """Return the size, if a camera's image can have it."""
    return (width, height) if 0 < min(width, height) <= max(width, height) <= MOST_SIDE else None


def run_head(make_node: Callable[[], HeadNode], name: str, argv: list[str] | None) -> int:
    """Run the node until SIGINT or SIGTERM, then return 0; return 2 where it cannot start."""
    return run_command(name, make_node, HeadNode.update_subscriptions, argv, (BundleError,))
