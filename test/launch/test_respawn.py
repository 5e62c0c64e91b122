"""`vehicle.launch.py`: node and display are killed while images come, and launch starts them again.

The fault table (test/node/test_fault_table.py) starts them itself; here the launch file's own
respawn is what brings the image back.
"""

from __future__ import annotations

import array
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from launched import Launched

from unirestore_ros.evaluate.dds_measures import family, is_running

if TYPE_CHECKING:
    from rclpy.node import Node
    from sensor_msgs.msg import Image

rclpy = pytest.importorskip("rclpy", reason="there is no ROS 2 here")
messages = pytest.importorskip("sensor_msgs.msg", reason="there is no ROS 2 here")

TIMEOUT_S = 60.0
PERIOD_S = 0.1
SIZE = (480, 360)
PIXELS = np.random.default_rng(1).integers(0, 255, SIZE[0] * SIZE[1], np.uint8).tobytes()
RESTORER, DISPLAY = "unirestore", "driver_display"


class Car:
    """A camera that sends, and subscribers of the node's and the display's images."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.executor = rclpy.executors.SingleThreadedExecutor(context=node.context)
        self.came: dict[str, list[float]] = {RESTORER: [], DISPLAY: []}
        """When images came, by the node that sent them, in seconds of the steady clock."""
        self.message = messages.Image(height=SIZE[1], width=SIZE[0], encoding="mono8", step=SIZE[0])
        self.message.data = array.array("B", PIXELS)
        self.publisher = node.create_publisher(messages.Image, "/image_raw", 1)
        self.sent = 0.0
        for name, times in self.came.items():

            def keep(message: Image, times: list[float] = times) -> None:
                times.append(time.monotonic())

            node.create_subscription(messages.Image, f"/{name}/image", keep, 1)

    def until(self, condition: Callable[[], object], what: Callable[[], str]) -> None:
        """Go on sending and receiving until a condition holds."""
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < end, what()
            if time.monotonic() - self.sent >= PERIOD_S:
                self.sent = time.monotonic()
                self.message.header.stamp = self.node.get_clock().now().to_msg()
                self.publisher.publish(self.message)
            rclpy.spin_once(self.node, executor=self.executor, timeout_sec=0.02)

    def has_images(self, name: str, since: float) -> bool:
        return len([at for at in self.came[name] if at > since]) >= 3


@pytest.fixture
def car() -> Iterator[Car]:
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("respawn_test", context=context)
    yield Car(node)
    node.destroy_node()
    rclpy.shutdown(context=context)


def process_of(launched: Launched, name: str, but: int = 0) -> int | None:
    """The process that launch runs for a node, unless it is ``but``."""
    for pid in family(launched.pid)[1:]:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if pid != but and f"__node:={name}".encode() in words:
            return pid
    return None


@pytest.mark.dds
@pytest.mark.slow
def test_launch_brings_node_and_display_back(repository: Path, car: Car, tmp_path: Path) -> None:
    said = ["image:=/image_raw", "consumers:=false", "page_port:=0"]
    with Launched(repository / "launch" / "vehicle.launch.py", said, tmp_path) as launched:

        def image_of(name: str, since: float) -> Any:
            return lambda: car.has_images(name, since)

        for name in (RESTORER, DISPLAY):
            car.until(image_of(name, 0.0), launched.log)
        node = process_of(launched, RESTORER)
        assert node is not None
        engines = family(node)[1:]
        assert len(engines) == 1, engines

        os.kill(node, signal.SIGKILL)
        killed_at = time.monotonic()
        car.until(lambda: not is_running(engines[0]), launched.log)
        assert time.monotonic() - killed_at < 1.0
        # The display goes on without the node, with the camera's images.
        car.until(image_of(DISPLAY, time.monotonic()), launched.log)
        car.until(lambda: process_of(launched, RESTORER, but=node), launched.log)
        car.until(image_of(RESTORER, time.monotonic()), launched.log)

        display = process_of(launched, DISPLAY)
        assert display is not None
        os.kill(display, signal.SIGKILL)
        killed_at = time.monotonic()
        # ~/image goes on without the display.
        car.until(image_of(RESTORER, killed_at), launched.log)
        car.until(lambda: process_of(launched, DISPLAY, but=display), launched.log)
        car.until(image_of(DISPLAY, time.monotonic()), launched.log)

        assert launched.interrupt(TIMEOUT_S) == 0, launched.log()
        text = launched.log()
    assert text.count("process has died") == 2, text
    assert text.count("process has finished cleanly") == 2, text
