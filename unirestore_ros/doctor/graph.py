"""Observe the ROS graph for some seconds; `check_graph` runs this in a process of its own.

Cameras' topics are subscribed and their frames counted. Topics of this package's nodes are not:
subscribing would make them compute.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator
from functools import partial

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import (
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from sensor_msgs.msg import CompressedImage, Image

from unirestore_ros.msgs.camera_frame import read_frame
from unirestore_ros.msgs.cdr import ImageView, MalformedMessage
from unirestore_ros.msgs.rates import mean_rate
from unirestore_ros.msgs.subscribing import offered_reliability

NAME = "unirestore_doctor"
_IMAGE_TYPES = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
}
# Fast DDS announces a process every 3 s. Some answer a new one's announcement at once, but of 10
# measured, 5 were found only after 1.9 to 3.1 s.
_DISCOVERY_S = 3.5
_OWN_CONSUMERS = ("segmentation_head", "detection_head", "driver_display")


@dataclasses.dataclass
class CameraTopic:
    """A topic of images, and what came on it while it was subscribed."""

    topic: str
    kind: str
    publishers: list[str]
    measured: bool
    """Whether it was subscribed."""
    frames: int = 0
    hz: float | None = None
    """From the first frame to the last; None for fewer than two."""
    encoding: str = ""
    width: int = 0
    height: int = 0
    problem: str = ""
    """Why a frame could not be read."""
    unsupported: str = ""
    """Why a frame that could be read would not be restored, but for its size."""


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """A publisher and a subscriber of one topic whose QoS keeps them apart, and why."""

    topic: str
    publisher: str
    subscriber: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Graph:
    nodes: int
    cameras: list[CameraTopic]
    mismatches: list[Mismatch]


def observe(seconds: float) -> Graph:
    """Wait for discovery, then receive for ``seconds``."""
    rclpy.init(args=[])
    node = Node(NAME)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        _spin(executor, _DISCOVERY_S)
        cameras = list(_find_cameras(node))
        _receive(node, executor, cameras, seconds)
        others = [name for name in node.get_node_names() if name != NAME]
        return Graph(len(others), cameras, list(_find_mismatches(node)))
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown()


def _spin(executor: SingleThreadedExecutor, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        executor.spin_once(timeout_sec=left)


def _find_cameras(node: Node) -> Iterator[CameraTopic]:
    own = _own_nodes(node)
    for topic, kinds in node.get_topic_names_and_types():
        for kind in _IMAGE_TYPES.keys() & set(kinds):
            infos = node.get_publishers_info_by_topic(topic)
            names = sorted({_full_name(info) for info in infos})
            if names:
                yield CameraTopic(topic, kind, names, measured=not own & set(names))


def _own_nodes(node: Node) -> set[str]:
    """Find restore_nodes, by two services that only they have together, and our consumers."""
    services = {name for name, _ in node.get_service_names_and_types()}
    enabling = {name.removesuffix("/set_enabled") for name in services}
    found = {name for name in enabling if {f"{name}/set_enabled", f"{name}/reload"} <= services}
    for name, namespace in node.get_node_names_and_namespaces():
        if name in _OWN_CONSUMERS:
            found.add(f"{namespace.rstrip('/')}/{name}")
    return found


def _full_name(info: object) -> str:
    namespace = str(getattr(info, "node_namespace", "/"))
    return f"{namespace.rstrip('/')}/{getattr(info, 'node_name', '')}"


def _receive(
    node: Node, executor: SingleThreadedExecutor, cameras: list[CameraTopic], seconds: float
) -> None:
    """Subscribe as restore_node does, and fill in what came."""
    arrivals: list[tuple[CameraTopic, list[int]]] = []
    subscriptions = []
    for camera in cameras:
        if not camera.measured:
            continue
        times: list[int] = []
        arrivals.append((camera, times))
        reliability = offered_reliability(node, camera.topic) or ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=10, reliability=reliability)
        kind, callback = _IMAGE_TYPES[camera.kind], partial(_receive_frame, camera, times)
        subscriptions.append(node.create_subscription(kind, camera.topic, callback, qos, raw=True))
    if subscriptions:
        _spin(executor, seconds)
    for camera, times in arrivals:
        camera.frames, camera.hz = len(times), mean_rate(times)
    for subscription in subscriptions:
        node.destroy_subscription(subscription)


def _receive_frame(camera: CameraTopic, times: list[int], message: bytes) -> None:
    times.append(time.monotonic_ns())
    if camera.encoding or camera.problem:
        return
    try:
        frame = read_frame(message, camera.kind.endswith("/CompressedImage"), 0.0, 0)
    except MalformedMessage as error:
        camera.problem = str(error)
        return
    view = frame.view
    camera.encoding = view.encoding if isinstance(view, ImageView) else view.format
    camera.width, camera.height = frame.width, frame.height
    camera.unsupported = frame.unsupported or ""


def _find_mismatches(node: Node) -> Iterator[Mismatch]:
    for topic, _ in node.get_topic_names_and_types():
        publishers = node.get_publishers_info_by_topic(topic)
        subscribers = node.get_subscriptions_info_by_topic(topic)
        for one, other in itertools.product(publishers, subscribers):
            compatible, reason = qos_check_compatible(one.qos_profile, other.qos_profile)
            if compatible == QoSCompatibility.ERROR:
                yield Mismatch(topic, _full_name(one), _full_name(other), reason)
