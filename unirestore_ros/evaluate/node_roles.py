"""The processes around a node that is measured: a camera, a bare relay, recorders.

    python -m unirestore_ros.evaluate.node_roles camera TOPIC WIDTH HEIGHT RATE_HZ \
        [ENCODING RELIABILITY]
    python -m unirestore_ros.evaluate.node_roles changing TOPIC OUT.json AFTER_S \
        WIDTH HEIGHT RATE_HZ WIDTH HEIGHT RATE_HZ
    python -m unirestore_ros.evaluate.node_roles relay TOPIC_IN TOPIC_OUT
    python -m unirestore_ros.evaluate.node_roles listener OUT.npz TOPIC:TYPE[:RELIABILITY] ...
    python -m unirestore_ros.evaluate.node_roles diagnostics OUT.json NODE

Each runs until SIGINT or SIGTERM, and then writes. A changing camera takes another size and rate
some seconds after it begins, and writes the stamp of its first frame of that size. The listener
writes, for each topic, an array
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
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from unirestore_ros.files import written_beside
from unirestore_ros.msgs.encodings import ENCODINGS

TYPES = {kind.__name__: kind for kind in (Image, CompressedImage, CameraInfo, DiagnosticArray)}
_STAMP = struct.Struct("<iI")  # after CDR's own 4 bytes: seconds and nanoseconds
_IMAGES = 8


class Camera:
    """Publishes moving noise and its CameraInfo."""

    def __init__(
        self,
        node: Node,
        topic: str,
        width: str,
        height: str,
        rate_hz: str,
        encoding: str = "bgr8",
        reliability: str = "reliable",
    ) -> None:
        self._image = node.create_publisher(Image, topic, _qos(reliability))
        folder = topic.rpartition("/")[0]
        self._info = node.create_publisher(CameraInfo, f"{folder}/camera_info", 1)
        size = int(width), int(height)
        self._messages = [_noise_image(*size, seed, encoding) for seed in range(_IMAGES)]
        self._calibration = CameraInfo(width=size[0], height=size[1], k=[100.0] * 9, p=[100.0] * 12)
        self._count = 0
        self._timer = node.create_timer(1 / float(rate_hz), self._publish)

    def pause(self) -> None:
        self._timer.cancel()

    def resume(self) -> None:
        """Publish a frame at once, and then at the camera's rate."""
        self._timer.reset()
        self._publish()

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


class ChangingCamera:
    """A camera whose size and rate change once; writes when."""

    def __init__(self, node: Node, topic: str, out: str, after_s: str, *sizes: str) -> None:
        self._out = Path(out)
        self._changed_ns: int | None = None
        self._before = Camera(node, topic, *sizes[:3])
        self._after = Camera(node, topic, *sizes[3:])
        self._after.pause()
        self._timer = node.create_timer(float(after_s), self._change)

    def _change(self) -> None:
        self._timer.cancel()
        self._before.pause()
        self._changed_ns = time.time_ns()
        self._after.resume()

    def close(self) -> None:
        with written_beside(self._out) as beside:
            beside.write_text(json.dumps({"changed_ns": self._changed_ns}))


def _qos(reliability: str) -> QoSProfile:
    return QoSProfile(depth=1, reliability=ReliabilityPolicy[reliability.upper()])


def _noise_image(width: int, height: int, seed: int, encoding: str = "bgr8") -> Image:
    """Patches of colour, which look alike at every size: reduced to the working size, smaller ones
    would be taken for noise, and the guard would refuse the image without it."""
    side = max(8, width // 60)
    channels = ENCODINGS[encoding].channels
    shape = height // side + 1, width // side + 1, channels
    coarse = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    pixels = coarse.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]
    data = array.array("B", pixels.tobytes())
    return Image(width=width, height=height, encoding=encoding, step=channels * width, data=data)


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
            topic, kind, *reliability = entry.split(":")
            arrivals = self._arrivals[topic] = []
            qos = _qos(*reliability or ["reliable"])
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
    "changing": ChangingCamera,
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
