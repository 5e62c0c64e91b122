"""The node's topics: which of them anybody subscribes, and sending to them."""

from __future__ import annotations

import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from unirestore_ros.engine import EngineOutput
from unirestore_ros.msgs.publishing import Topic
from unirestore_ros.node.parameters import Parameters
from unirestore_ros.tasks import DRIVERS_TASK

# Names after the node's own, without the `~/`.
IMAGE = "image"
JPEG = "image/compressed"
CAMERA_INFO = "camera_info"
STATUS = "status"
GUARD = "guard"
_ABOUT_FRAMES = {STATUS, GUARD}
"""Topics that say something of a frame, and are no reason to restore it."""


@dataclass(frozen=True)
class Demand:
    """The topics that have subscribers, but for `~/status` and `~/guard`, which are no reason to
    restore."""

    topics: frozenset[str]

    def __contains__(self, topic: str) -> bool:
        return topic in self.topics

    def __bool__(self) -> bool:
        return bool(self.topics)

    @property
    def drivers(self) -> frozenset[str]:
        """Return the topics of the driver's image."""
        return self.topics & {IMAGE, JPEG}

    @property
    def frames(self) -> bool:
        """Tell whether anything is wanted that the network makes."""
        return any(not topic.endswith(CAMERA_INFO) for topic in self.topics)

    def engine_outputs(self, tasks: Iterable[str]) -> list[EngineOutput]:
        """List what the engine is to compute, for some of ``tasks``. The driver's image comes
        first, since it is the most urgent; the tasks' images come last, since they take longest."""
        drivers = [EngineOutput("image", DRIVERS_TASK)] if self.drivers else []
        features = [EngineOutput("features", task) for task in tasks if f"{task}/features" in self]
        images = [EngineOutput("image", task) for task in tasks if f"{task}/image" in self]
        # The driver's task may be among the tasks: its image is then computed once.
        return list(dict.fromkeys([*drivers, *features, *images]))


class Outputs:
    """Publishers from configure to cleanup; they send while the node is active."""

    def __init__(self, node: LifecycleNode, parameters: Parameters) -> None:
        kinds: dict[str, type] = {
            IMAGE: Image,
            JPEG: CompressedImage,
            CAMERA_INFO: CameraInfo,
            STATUS: DiagnosticArray,
            GUARD: Image,
        }
        for task in parameters.tasks:
            kinds |= {f"{task}/features": Image, f"{task}/{CAMERA_INFO}": CameraInfo}
            if parameters.publish_task_images:
                kinds[f"{task}/image"] = Image
        self._node = node
        reliability = ReliabilityPolicy[parameters.output_reliability.upper()]
        qos = QoSProfile(depth=1, reliability=reliability)
        self._publishers: dict[str, LifecyclePublisher] = {
            name: node.create_lifecycle_publisher(kind, f"~/{name}", qos)
            for name, kind in kinds.items()
        }
        self._topics = {
            name: Topic(publisher, node.get_logger())
            for name, publisher in self._publishers.items()
        }

    def demand(self) -> Demand:
        wanted = {name for name, topic in self._topics.items() if topic.has_subscriber()}
        return Demand(frozenset(wanted - _ABOUT_FRAMES))

    def wants(self, topic: str) -> bool:
        return self._topics[topic].has_subscriber()

    def send(self, topic: str, message: NDArray[np.uint8]) -> None:
        """Send a message in CDR, (bytes,) uint8, whose memory may not change any more."""
        self._topics[topic].send(message)

    def send_object(self, topic: str, message: Any) -> None:
        """Send a message as rclpy has it."""
        self._topics[topic].send_object(message)

    def destroy(self) -> None:
        for name, topic in self._topics.items():
            topic.stop()
            self._node.destroy_lifecycle_publisher(self._publishers[name])


def guard_map(header: Header, scores: NDArray[np.uint8]) -> Image:
    """Make the message of `~/guard`: (h,w) uint8 over the whole frame, 255 the worst."""
    height, width = scores.shape
    data = array.array("B", scores.tobytes())
    return Image(header=header, height=height, width=width, encoding="mono8", step=width, data=data)
