"""What player and recorder share of ROS: how they offer topics, and their namespace."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from unirestore_ros.demo.names import NAMESPACE
from unirestore_ros.node import process

CAMERA_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
# The recorder holds on to a few messages while it writes one to disk.
RECORDER_QOS = QoSProfile(depth=8, reliability=ReliabilityPolicy.RELIABLE)


def ros_node(
    name: str,
) -> contextlib.AbstractContextManager[tuple[Node, Callable[[], bool]]]:
    """A node in the demo's namespace, and whether it is asked to stop."""
    return process.ros_node(name, NAMESPACE)
