"""Two nodes of one name: both say so, and no image is signed with the other's status."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from display_drive import PATIENT, SIZE
from rclpy.context import Context
from rclpy.node import Node
from ros_process import NodeProcess
from ros_station import Station, image, values_of
from sensor_msgs.msg import Image

from unirestore_ros.display.canvas import COLOURS
from unirestore_ros.display.inputs import process_of
from unirestore_ros.display.selection import FrameStatus

pytestmark = pytest.mark.dds
NAME = "unirestore"


class Restorer:
    """Publishes images of one level, and status of one mode, under the restorer's name."""

    def __init__(self, namespace: str, level: int, mode: str | None) -> None:
        self.context = Context()
        rclpy.init(args=[], context=self.context)
        self.node = Node(NAME, namespace=namespace, context=self.context)
        self._image = self.node.create_publisher(Image, "~/image", 1)
        self._status = self.node.create_publisher(DiagnosticArray, "~/status", 1)
        self._mode = mode
        self._message = image(np.full((48, 64, 3), level, np.uint8), "bgr8")

    def send(self, stamp: Time) -> None:
        self._message.header.stamp = stamp
        self._image.publish(self._message)
        if self._mode is not None:
            values = [KeyValue(key="mode", value=self._mode)]
            report = DiagnosticArray(status=[DiagnosticStatus(name=NAME, values=values)])
            report.header.stamp = stamp
            self._status.publish(report)

    def close(self) -> None:
        self.node.destroy_node()
        self.context.shutdown()


@pytest.fixture
def pair(
    start_node: Callable[..., NodeProcess], context: Context
) -> Iterator[tuple[Station, list[Restorer]]]:
    more = (f"output_width:={SIZE[0]}", f"output_height:={SIZE[1]}", "page:=false")
    display = start_node(*PATIENT, *more, command="driver_display")
    station = Station(context, display.namespace)
    restorers = [
        Restorer(display.namespace, 200, "restored"),
        Restorer(display.namespace, 60, None),
    ]
    yield station, restorers
    for restorer in restorers:
        restorer.close()
    station.close()


def shown(message: Image) -> tuple[int, FrameStatus]:
    """The level in the middle of the view, and the status in the colour of the strip."""
    pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
    colour = tuple(pixels[-4, 4].tolist())
    status = next(status for status in FrameStatus if COLOURS[status] == colour)
    return int(pixels[100, 160, 0]), status


def test_no_image_is_signed_with_the_status_of_the_other(
    pair: tuple[Station, list[Restorer]],
) -> None:
    station, restorers = pair
    if not has_publisher_identifiers(station):
        pytest.skip("this ROS does not say who published a message")
    name = f"{station.namespace}/driver_display"
    inbox = station.subscribe(f"{name}/image")
    diagnostics = station.subscribe("/diagnostics", DiagnosticArray)

    def pictures() -> list[tuple[int, FrameStatus]]:
        now = time.time_ns()
        stamp = Time(sec=now // 10**9, nanosec=now % 10**9)
        for restorer in restorers:
            restorer.send(stamp)
        station.pause(0.2)
        return [shown(message) for message in inbox.messages]

    def both() -> bool:
        return {level for level, _ in pictures()} >= {60, 200}

    station.wait(both, "pictures of both")
    for _ in range(10):
        pictures()
    found = set(pictures())
    assert (200, FrameStatus.RESTORED) in found
    assert (60, FrameStatus.RESTORED) not in found, "signed with the other's status"

    def said() -> bool:
        entries = [s for array in diagnostics.messages for s in array.status if s.name == name]
        return any(f"2 nodes of the name {station.namespace}/{NAME}" in s.message for s in entries)

    station.wait(said, "the display saying that there are two")


def has_publisher_identifiers(station: Station) -> bool:
    """Whether this ROS says who published a message: Kilted does, Humble and Jazzy do not."""
    found: list[Any] = []

    def receive(message: Image, info: Any) -> None:
        found.append(process_of(info))

    topic = f"{station.namespace}/probe"
    publisher = station.node.create_publisher(Image, topic, 1)
    subscription = station.node.create_subscription(Image, topic, receive, 1)

    def received() -> bool:
        publisher.publish(Image())
        return bool(found)

    station.wait(received, "the probe")
    station.node.destroy_subscription(subscription)
    station.node.destroy_publisher(publisher)
    return bool(found[0])


def test_both_nodes_say_that_they_have_one_name(
    start_node: Callable[..., NodeProcess], miniature: Path, context: Context
) -> None:
    first = start_node(f"bundle:={miniature}")
    start_node(f"bundle:={miniature}", namespace=first.namespace)
    station = Station(context, first.namespace)
    name = f"{first.namespace}/{NAME}"
    if not has_publisher_identifiers(station):
        pytest.skip("this ROS does not say who published a message")
    saying: set[bytes] = set()

    def receive(array: DiagnosticArray, info: Any) -> None:
        for status in array.status:
            if status.name == name and f"2 nodes are named {name}" in status.message:
                assert status.level == DiagnosticStatus.WARN and values_of(status)
                saying.add(process_of(info))

    station.node.create_subscription(DiagnosticArray, "/diagnostics", receive, 10)
    station.wait(lambda: len(saying) == 2, "both nodes saying that there are two")
    station.close()
