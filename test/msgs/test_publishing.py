"""Serialised messages that leave through rcl itself, each topic in a thread of its own."""

from __future__ import annotations

import threading
import weakref
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

from unirestore_ros.msgs.publishing import (
    LatestOnlyWorker,
    PublishError,
    Topic,
    publish_serialized,
)

LIMIT_S = 10.0


class Hands:
    """Handles items only when it is allowed to."""

    def __init__(self) -> None:
        self.handled: list[object] = []
        self.began = threading.Semaphore(0)
        self.allowed = threading.Semaphore(0)

    def __call__(self, item: object) -> None:
        self.began.release()
        assert self.allowed.acquire(timeout=LIMIT_S)
        self.handled.append(item)


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def worker(hands: Hands) -> Iterator[LatestOnlyWorker[object]]:
    worker = LatestOnlyWorker(hands, "test")
    yield worker
    hands.allowed.release(100)
    worker.stop()


def test_the_newest_takes_the_place_of_the_one_waiting(
    hands: Hands, worker: LatestOnlyWorker[object]
) -> None:
    assert not worker.offer(1)
    assert hands.began.acquire(timeout=LIMIT_S)
    assert not worker.offer(2)  # 1 is being handled, none waits
    assert worker.offer(3)
    assert worker.offer(4)
    hands.allowed.release(2)
    assert hands.began.acquire(timeout=LIMIT_S)
    worker.stop()
    assert hands.handled == [1, 4]


def test_what_waits_can_be_discarded(hands: Hands, worker: LatestOnlyWorker[object]) -> None:
    worker.offer(1)
    assert hands.began.acquire(timeout=LIMIT_S)
    worker.offer(2)
    worker.discard()
    hands.allowed.release(2)
    worker.stop()
    assert hands.handled == [1]


def test_a_task_runs_between_two_items(hands: Hands, worker: LatestOnlyWorker[object]) -> None:
    worker.offer(1)
    assert hands.began.acquire(timeout=LIMIT_S)
    worker.offer(2)
    worker.run_between(lambda: hands.handled.append("task"))
    hands.allowed.release(2)
    assert hands.began.acquire(timeout=LIMIT_S)
    worker.stop()
    assert hands.handled == [1, "task", 2]


def test_stopping_still_runs_tasks(hands: Hands, worker: LatestOnlyWorker[object]) -> None:
    worker.run_between(lambda: hands.handled.append("task"))
    worker.stop()
    assert hands.handled == ["task"]
    assert not worker.is_alive()


def test_an_item_is_freed_once_it_was_handled(
    worker: LatestOnlyWorker[object], hands: Hands
) -> None:
    """A frame holds megabytes: none is kept once it has been handled."""

    class Item:
        pass

    item = Item()
    gone = weakref.ref(item)
    worker.offer(item)
    assert hands.began.acquire(timeout=LIMIT_S)
    hands.allowed.release()
    worker.offer(2)
    assert hands.began.acquire(timeout=LIMIT_S)
    hands.handled.clear()
    del item
    assert gone() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_unforeseen_error_ends_the_thread() -> None:
    def fail(item: object) -> None:
        raise ZeroDivisionError

    worker = LatestOnlyWorker(fail, "test")
    assert worker.is_alive()
    worker.offer(1)
    worker.stop()
    assert not worker.is_alive()


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
    inbox = station.subscribe("image")
    station.wait(topic.has_subscriber, "the subscriber")
    sent = image(np.arange(60, dtype=np.uint8).reshape(4, 5, 3), "rgb8", padding=1)
    topic.send(np.frombuffer(serialize_message(sent), np.uint8))
    station.wait(lambda: inbox.messages, "the message")
    assert inbox.messages == [sent]
    topic.stop()


def test_an_object_arrives_as_it_was(node: LifecycleNode, station: Station) -> None:
    topic = Topic(node.create_publisher(CameraInfo, "~/camera_info", 1), node.get_logger())
    inbox = station.subscribe("camera_info", CameraInfo)
    station.wait(topic.has_subscriber, "the subscriber")
    topic.send_object(camera_info(64, 48))
    station.wait(lambda: inbox.messages, "the message")
    assert inbox.messages == [camera_info(64, 48)]
    topic.stop()


def test_nothing_is_sent_while_the_node_is_inactive(node: LifecycleNode, station: Station) -> None:
    publisher = node.create_lifecycle_publisher(CameraInfo, "~/camera_info", 1)
    topic = Topic(publisher, node.get_logger())
    inbox = station.subscribe("camera_info", CameraInfo)
    station.wait(topic.has_subscriber, "the subscriber")
    topic.send_object(camera_info(1, 1))
    node.trigger_configure()
    node.trigger_activate()
    topic.send_object(camera_info(2, 2))
    station.wait(lambda: inbox.messages, "the message")
    assert [info.width for info in inbox.messages] == [2]
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
