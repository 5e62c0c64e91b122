"""What the example consumers share: parameters, the head of the bundle, and its features."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import Image

from unirestore_ros.engine import BundleError
from unirestore_ros.engine.bundle import find_bundle, read_bundle, retry_if_replaced
from unirestore_ros.engine.head import Array, Head
from unirestore_ros.heads.features import read_features
from unirestore_ros.msgs.parameter_struct import (
    Change,
    NodeParameters,
    ParameterRefused,
    parameter,
)
from unirestore_ros.msgs.subscribing import OnDemandSubscription
from unirestore_ros.node.process import keep_image_buffers, run_node

_LOOK_EVERY_S = 0.5
_LOG_EVERY_S = 5.0
OUT = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


@dataclasses.dataclass(frozen=True)
class HeadParameters(NodeParameters):
    """Parameters of every head."""

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
    """Runs the bundle's head for a task on each feature map; subscribes only while somebody listens
    to what is made of it, so that nothing is computed for nobody."""

    def __init__(self, name: str, task: str, parameters: HeadParameters) -> None:
        super().__init__(name)
        type(parameters).declare(self)
        self.settings: Any = type(parameters).read(self)
        self.add_on_set_parameters_callback(self._on_parameters)
        folder = find_bundle(self.settings.bundle)
        bundle = retry_if_replaced(folder, lambda: read_bundle(folder))
        self.head = Head(bundle, task, self.settings.threads)
        self._publishers_out: list[Publisher] = []
        self._features = self.input(f"unirestore/{task}/features", self._on_features)
        # Not on the node's clock, which stands still in a simulation that is paused.
        self.create_timer(_LOOK_EVERY_S, self.look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(f"{len(self.head.classes)} classes of {folder}, for {task}")

    def on_features(self, message: Image, outputs: dict[str, Array]) -> None:
        """To be written by the subclass: what to publish of the head's outputs."""
        raise NotImplementedError

    def input(self, topic: str, callback: Callable[[Image], None]) -> OnDemandSubscription:
        """A topic that is subscribed as long as ``update(True)`` says so; may be remapped."""
        name = self.resolve_topic_name(topic)
        return OnDemandSubscription(
            self, Image, name, callback, self.settings.input_reliability, raw=False
        )

    def output(self, kind: type, topic: str) -> Publisher:
        publisher: Publisher = self.create_publisher(kind, f"~/{topic}", OUT)
        self._publishers_out.append(publisher)
        return publisher

    def look(self) -> None:
        """Subscribe or let go, as others have come and gone."""
        wanted = any(publisher.get_subscription_count() for publisher in self._publishers_out)
        self._features.update(wanted)
        if wanted and not self._features.is_open:
            self.get_logger().warning(
                f"nobody publishes {self._features.topic}: start restore_node, with the task among"
                " its `tasks`, or remap",
                throttle_duration_sec=_LOG_EVERY_S,
            )

    def _on_features(self, message: Image) -> None:
        try:
            outputs = self.head.run(read_features(message))
        except ValueError as error:  # of another bundle, or no feature map
            self.get_logger().error(str(error), throttle_duration_sec=_LOG_EVERY_S)
            return
        self.on_features(message, outputs)

    def _on_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            self.settings = self.settings.changed(changes)
        except ParameterRefused as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def run_head(make_node: Callable[[], HeadNode], name: str, argv: list[str] | None) -> int:
    """Run the node until SIGINT or SIGTERM, which is 0; what keeps it from starting is 2."""
    keep_image_buffers()
    arguments = sys.argv[1:] if argv is None else argv
    if extra := remove_ros_args(arguments):
        sys.stderr.write(f"{name}: unknown arguments {' '.join(extra)}; see --ros-args\n")
        return 2
    try:
        run_node(make_node, HeadNode.look, arguments)
    except (BundleError, ParameterRefused, ParameterException) as error:
        get_logger(name).fatal(str(error))
        return 2
    return 0
