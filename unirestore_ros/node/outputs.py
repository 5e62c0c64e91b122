"""The node's topics, and which of them anybody listens to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from unirestore_ros.msgs.publishing import Topic
from unirestore_ros.node.parameters import Parameters


class TaskDemand(NamedTuple):
    """Which of a task's topics have subscribers."""

    features: bool
    camera_info: bool
    image: bool


class Demand(NamedTuple):
    """Which topics have subscribers."""

    image: bool
    compressed: bool
    camera_info: bool
    tasks: Mapping[str, TaskDemand]

    @property
    def picture(self) -> bool:
        """Whether the driver's picture is wanted."""
        return self.image or self.compressed

    @property
    def frames(self) -> bool:
        """Whether anything is wanted that the network makes."""
        return self.picture or any(task.features or task.image for task in self.tasks.values())

    @property
    def anything(self) -> bool:
        return (
            self.frames or self.camera_info or any(task.camera_info for task in self.tasks.values())
        )


class TaskTopics(NamedTuple):
    features: Topic
    camera_info: Topic
    image: Topic | None

    def demand(self) -> TaskDemand:
        return TaskDemand(*(topic is not None and topic.has_subscriber() for topic in self))


class Outputs:
    """Publishers from configure to cleanup; they send while the node is active."""

    def __init__(self, node: LifecycleNode, parameters: Parameters) -> None:
        self._node = node
        self._all: list[tuple[Topic, LifecyclePublisher]] = []
        self._qos = QoSProfile(
            depth=1, reliability=ReliabilityPolicy[parameters.output_reliability.upper()]
        )
        self.image = self._topic(Image, "image")
        self.compressed = self._topic(CompressedImage, "image/compressed")
        self.camera_info = self._topic(CameraInfo, "camera_info")
        self.status = self._topic(DiagnosticArray, "status")
        self.tasks = {
            task: TaskTopics(
                self._topic(Image, f"{task}/features"),
                self._topic(CameraInfo, f"{task}/camera_info"),
                self._topic(Image, f"{task}/image") if parameters.publish_task_images else None,
            )
            for task in parameters.tasks
        }

    def demand(self) -> Demand:
        return Demand(
            image=self.image.has_subscriber(),
            compressed=self.compressed.has_subscriber(),
            camera_info=self.camera_info.has_subscriber(),
            tasks={task: topics.demand() for task, topics in self.tasks.items()},
        )

    def destroy(self) -> None:
        for topic, publisher in self._all:
            topic.stop()
            self._node.destroy_lifecycle_publisher(publisher)

    def _topic(self, kind: type, name: str) -> Topic:
        publisher: LifecyclePublisher = self._node.create_lifecycle_publisher(
            kind, f"~/{name}", self._qos
        )
        topic = Topic(publisher, self._node.get_logger())
        self._all.append((topic, publisher))
        return topic
