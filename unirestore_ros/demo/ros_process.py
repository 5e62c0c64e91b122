"""What player and recorder share of ROS: how they offer topics, and one way to start and stop."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from unirestore_ros.demo.names import NAMESPACE

CAMERA_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
# The recorder holds on to a few messages while it writes one to disk.
RECORDER_QOS = QoSProfile(depth=8, reliability=ReliabilityPolicy.RELIABLE)


@contextlib.contextmanager
def ros_node(name: str) -> Iterator[tuple[Node, Callable[[], bool]]]:
    """A node, and whether SIGINT or SIGTERM has asked to stop."""
    stop = False

    def ask_to_stop(number: int, frame: object) -> None:
        nonlocal stop
        stop = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask_to_stop)
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node(name, namespace=NAMESPACE)
    try:
        yield node, lambda: stop
    finally:
        node.destroy_node()
        rclpy.shutdown()
