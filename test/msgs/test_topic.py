"""Messages that leave through rcl itself, in a thread of their own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.serialization import serialize_message
from ros_station import Station, camera_info, image
from sensor_msgs.msg import CameraInfo, Image

from unirestore_ros.msgs.rcl import PublishError, publish_serialized
from unirestore_ros.msgs.topic import Topic


@pytest.fixture
def station(context: Context) -> Iterator[Station]:
    station = Station(context, "/topics")
    yield station
    station.close()


@pytest.fixture
def node(context: Context) -> Iterator[LifecycleNode]:
    node = LifecycleNode("unirestore", namespace="/topics", context=context)
    yield node
    node.destroy_node()


def test_a_message_arrives_as_it_was(node: LifecycleNode, station: Station) -> None:
    topic = Topic(node.create_publisher(Image, "~/image", 1), node.get_logger())
    ear = station.listen("image")
    station.wait(topic.has_subscriber, "the subscriber")
    sent = image(np.arange(60, dtype=np.uint8).reshape(4, 5, 3), "rgb8", padding=1)
    topic.send(np.frombuffer(serialize_message(sent), np.uint8))
    station.wait(lambda: ear.heard, "the message")
    assert ear.heard == [sent]
    topic.stop()


def test_an_object_arrives_as_it_was(node: LifecycleNode, station: Station) -> None:
    topic = Topic(node.create_publisher(CameraInfo, "~/camera_info", 1), node.get_logger())
    ear = station.listen("camera_info", CameraInfo)
    station.wait(topic.has_subscriber, "the subscriber")
    topic.send_object(camera_info(64, 48))
    station.wait(lambda: ear.heard, "the message")
    assert ear.heard == [camera_info(64, 48)]
    topic.stop()


def test_nothing_is_sent_while_the_node_is_inactive(node: LifecycleNode, station: Station) -> None:
    publisher = node.create_lifecycle_publisher(CameraInfo, "~/camera_info", 1)
    topic = Topic(publisher, node.get_logger())
    ear = station.listen("camera_info", CameraInfo)
    station.wait(topic.has_subscriber, "the subscriber")
    topic.send_object(camera_info(1, 1))
    node.trigger_configure()
    node.trigger_activate()
    topic.send_object(camera_info(2, 2))
    station.wait(lambda: ear.heard, "the message")
    assert [info.width for info in ear.heard] == [2]
    topic.stop()


def test_what_dds_does_not_take_is_an_error_that_leaves_rcl_sound() -> None:
    """As when ROS goes down while a message is on its way."""
    context = Context()
    rclpy.init(args=[], context=context)
    node = Node("unirestore", namespace="/topics", context=context)
    publisher = node.create_publisher(CameraInfo, "~/camera_info", 1)
    message = np.frombuffer(serialize_message(camera_info(1, 1)), np.uint8)
    with context.handle:
        context.handle.shutdown()
    with pytest.raises(PublishError, match="unirestore/camera_info: rcl says"):
        publish_serialized(publisher, message)
    node.destroy_node()
