"""What is on the ROS graph, looked at for some seconds, in a process of its own.

``doctor.cameras`` runs it. Cameras' topics are subscribed and their frames counted; not those that
restored images or features are published on, for to listen to them would make their nodes work.
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

from unirestore_ros.msgs.cdr import MalformedMessage, view_compressed, view_image
from unirestore_ros.msgs.rates import mean_rate
from unirestore_ros.msgs.subscribing import offered_reliability

NAME = "unirestore_doctor"
IMAGES = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}
# Publishers answer to discovery within some hundred milliseconds; a busy machine takes longer.
_DISCOVERY_S = 2.0
_OWN_CONSUMERS = ("segmentation_head", "detection_head", "driver_display")


@dataclasses.dataclass
class Camera:
    """A topic of images: what came on it while it was listened to."""

    topic: str
    kind: str
    publishers: list[str]
    measured: bool
    """Whether it was listened to: topics of this package's nodes are not."""
    frames: int = 0
    hz: float | None = None
    """From the first frame to the last; None for fewer than two."""
    encoding: str = ""
    width: int = 0
    height: int = 0
    problem: str = ""
    """Why a frame could not be read."""


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """A publisher and a subscriber of one topic that never meet, and why."""

    topic: str
    publisher: str
    subscriber: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Graph:
    nodes: int
    cameras: list[Camera]
    mismatches: list[Mismatch]


def observe(seconds: float) -> Graph:
    """Look for that long, after a time for discovery."""
    rclpy.init(args=[])
    node = Node(NAME)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        _spin(executor, _DISCOVERY_S)
        cameras = list(_cameras(node))
        _listen(node, executor, cameras, seconds)
        others = [name for name in node.get_node_names() if name != NAME]
        return Graph(len(others), cameras, list(_mismatches(node)))
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown()


def _spin(executor: SingleThreadedExecutor, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        executor.spin_once(timeout_sec=left)


def _cameras(node: Node) -> Iterator[Camera]:
    own = _own_nodes(node)
    for topic, kinds in node.get_topic_names_and_types():
        for kind in IMAGES.keys() & set(kinds):
            infos = node.get_publishers_info_by_topic(topic)
            names = sorted({_full_name(info) for info in infos})
            if names:
                yield Camera(topic, kind, names, measured=not own & set(names))


def _own_nodes(node: Node) -> set[str]:
    """restore_nodes, by the services that only they have together, and the example consumers."""
    services = {name for name, _ in node.get_service_names_and_types()}
    ends = "/set_enabled", "/reload"
    restoring = {name.removesuffix(ends[0]) for name in services if name.endswith(ends[0])}
    found = {name for name in restoring if name + ends[1] in services}
    for name, namespace in node.get_node_names_and_namespaces():
        if name in _OWN_CONSUMERS:
            found.add(f"{namespace.rstrip('/')}/{name}")
    return found


def _full_name(info: object) -> str:
    namespace = str(getattr(info, "node_namespace", "/"))
    return f"{namespace.rstrip('/')}/{getattr(info, 'node_name', '')}"


def _listen(
    node: Node, executor: SingleThreadedExecutor, cameras: list[Camera], seconds: float
) -> None:
    times: dict[str, list[int]] = {}
    subscriptions = []
    for camera in (camera for camera in cameras if camera.measured):
        arrivals = times[camera.topic] = []
        hear = partial(_hear, camera, arrivals)
        reliability = offered_reliability(node, camera.topic) or ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=10, reliability=reliability)
        kind = IMAGES[camera.kind]
        subscriptions.append(node.create_subscription(kind, camera.topic, hear, qos, raw=True))
    if subscriptions:
        _spin(executor, seconds)
    for camera in cameras:
        arrivals = times.get(camera.topic, [])
        camera.frames = len(arrivals)
        camera.hz = mean_rate(arrivals)
    for subscription in subscriptions:
        node.destroy_subscription(subscription)


def _hear(camera: Camera, arrivals: list[int], message: bytes) -> None:
    arrivals.append(time.monotonic_ns())
    if camera.encoding or camera.problem:
        return
    try:
        if camera.kind.endswith("/CompressedImage"):
            camera.encoding = view_compressed(message).format
        else:
            image = view_image(message)
            camera.encoding, camera.width, camera.height = image.encoding, image.width, image.height
    except MalformedMessage as error:
        camera.problem = str(error)


def _mismatches(node: Node) -> Iterator[Mismatch]:
    for topic, _ in node.get_topic_names_and_types():
        publishers = node.get_publishers_info_by_topic(topic)
        subscribers = node.get_subscriptions_info_by_topic(topic)
        for one, other in itertools.product(publishers, subscribers):
            fits, reason = qos_check_compatible(one.qos_profile, other.qos_profile)
            if fits == QoSCompatibility.ERROR:
                yield Mismatch(topic, _full_name(one), _full_name(other), reason)
