"""The processes around a node that is measured: a camera, a bare relay, recorders.

    python -m unirestore_ros.evaluate.node_roles camera TOPIC WIDTH HEIGHT RATE_HZ
    python -m unirestore_ros.evaluate.node_roles relay TOPIC_IN TOPIC_OUT
    python -m unirestore_ros.evaluate.node_roles listener OUT.npz TOPIC:TYPE ...
    python -m unirestore_ros.evaluate.node_roles diagnostics OUT.json NODE

Each runs until SIGINT or SIGTERM, and then writes. The listener writes, for each topic, an array
(messages, 2): stamp and arrival, in ns of the system clock, `diagnostics` the values of the
node's diagnostics.
"""

from __future__ import annotations

import array
import json
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from unirestore_ros.files import written_beside

TYPES = {kind.__name__: kind for kind in (Image, CompressedImage, CameraInfo, DiagnosticArray)}
_STAMP = struct.Struct("<iI")  # after CDR's own 4 bytes: seconds and nanoseconds
_IMAGES = 8


class Camera:
    """Publishes moving noise, bgr8, and its CameraInfo."""

    def __init__(self, node: Node, topic: str, width: str, height: str, rate_hz: str) -> None:
        self._image = node.create_publisher(Image, topic, 1)
        folder = topic.rpartition("/")[0]
        self._info = node.create_publisher(CameraInfo, f"{folder}/camera_info", 1)
        size = int(width), int(height)
        self._messages = [_noise_image(*size, seed) for seed in range(_IMAGES)]
        self._calibration = CameraInfo(width=size[0], height=size[1], k=[100.0] * 9, p=[100.0] * 12)
        self._count = 0
        node.create_timer(1 / float(rate_hz), self._publish)

    def _publish(self) -> None:
        message = self._messages[self._count % _IMAGES]
        self._count += 1
        now = time.time_ns()
        message.header.stamp = Time(sec=now // 10**9, nanosec=now % 10**9)
        self._calibration.header = message.header
        self._info.publish(self._calibration)
        self._image.publish(message)

    def close(self) -> None:
        pass


def _noise_image(width: int, height: int, seed: int) -> Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    pixels = coarse.astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    data = array.array("B", pixels.tobytes())
    return Image(width=width, height=height, encoding="bgr8", step=3 * width, data=data)


class Relay:
    """Publishes every message that it receives: the least that rclpy can do."""

    def __init__(self, node: Node, topic_in: str, topic_out: str) -> None:
        publisher = node.create_publisher(Image, topic_out, 1)
        node.create_subscription(Image, topic_in, publisher.publish, 1)

    def close(self) -> None:
        pass


class ArrivalRecorder:
    """Records stamp and arrival of every message, without deserialising it."""

    def __init__(self, node: Node, out: str, *topics: str) -> None:
        self._out = Path(out)
        self._arrivals: dict[str, list[tuple[int, int]]] = {}
        for entry in topics:
            topic, kind = entry.split(":")
            arrivals = self._arrivals[topic] = []
            qos = QoSProfile(depth=1)
            node.create_subscription(TYPES[kind], topic, _recording(arrivals), qos, raw=True)

    def close(self) -> None:
        arrays: dict[str, Any] = {
            topic.replace("/", "|"): np.array(arrivals, np.int64)
            for topic, arrivals in self._arrivals.items()
        }
        with written_beside(self._out) as beside, beside.open("wb") as stream:
            np.savez(stream, **arrays)


def _recording(arrivals: list[tuple[int, int]]) -> Callable[[bytes], None]:
    def note(message: bytes) -> None:
        seconds, nanoseconds = _STAMP.unpack_from(message, 4)
        arrivals.append((seconds * 10**9 + nanoseconds, time.time_ns()))

    return note


def read_arrivals(path: Path) -> dict[str, np.ndarray]:
    """Read what a listener wrote: by topic, an array (messages, 2) of stamp and arrival."""
    with np.load(path) as arrays:
        return {name.replace("|", "/"): arrays[name].reshape(-1, 2) for name in arrays.files}


class DiagnosticsRecorder:
    """Records the diagnostics of one node."""

    def __init__(self, node: Node, out: str, name: str) -> None:
        self._out = Path(out)
        self._name = name
        self._values: list[dict[str, str]] = []
        node.create_subscription(DiagnosticArray, "/diagnostics", self._note, 10)

    def _note(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self._name:
                self._values.append({pair.key: pair.value for pair in status.values})

    def close(self) -> None:
        with written_beside(self._out) as beside:
            beside.write_text(json.dumps(self._values))


def read_diagnostics(path: Path) -> list[dict[str, str]]:
    """Read what the recorder wrote: the values of each message, in their order."""
    values: list[dict[str, str]] = json.loads(path.read_text())
    return values


ROLES = {
    "camera": Camera,
    "relay": Relay,
    "listener": ArrivalRecorder,
    "diagnostics": DiagnosticsRecorder,
}


def main(argv: list[str] | None = None) -> int:
    name, *arguments = sys.argv[1:] if argv is None else argv
    stop = False

    def ask_to_stop(number: int, frame: object) -> None:
        nonlocal stop
        stop = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask_to_stop)
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node(f"bench_{name}")
    role = ROLES[name](node, *arguments)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not stop:
        executor.spin_once(timeout_sec=0.2)
    executor.shutdown()
    role.close()
    node.destroy_node()
    rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
