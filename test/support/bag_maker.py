"""Small bags with cameras and other topics, written by rosbags itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
INFO, TEXT = "sensor_msgs/msg/CameraInfo", "std_msgs/msg/String"
OWN = "my_vehicle_msgs/msg/Steering"
SIZE = (64, 48)  # what the miniature bundle takes
FOCAL, CENTRE = 50.0, (31.5, 23.5)
START_NS = 1_700_000_000_000_000_000
MS = 1_000_000
FOREVER = QosTime(2147483647, 4294967295)
LATCHED = Qos(
    QosHistory.KEEP_LAST,
    3,
    QosReliability.RELIABLE,
    QosDurability.TRANSIENT_LOCAL,
    FOREVER,
    FOREVER,
    QosLiveliness.AUTOMATIC,
    FOREVER,
    False,
)


def street(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) uint8: blurred colours; dark, since bright ones make the miniature slow."""
    coarse = np.random.default_rng(seed).integers(0, 60, (9, 12, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC))


class BagMaker:
    """Writes messages with stamps 3 ms before the time of their recording."""

    def __init__(
        self, folder: Path, storage: str = "sqlite3", version: Any = 9, compression: str = ""
    ) -> None:
        self.types = get_typestore(Stores.ROS2_HUMBLE)
        self.types.register(get_types_from_msg("float64 angle\nuint8[] raw", OWN))
        self.writer = Writer(folder, version=version, storage_plugin=StoragePlugin[storage.upper()])
        if compression:
            mode = CompressionMode[compression.upper()]
            self.writer.set_compression(mode, CompressionFormat.ZSTD)
        self.connections: dict[str, Any] = {}
        self.cut: int | None = None
        """Where messages end early, in bytes."""

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        stamp = self.types.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
        return self.types.types["std_msgs/msg/Header"](stamp, frame_id)

    def image(
        self,
        topic: str,
        time_ns: int,
        pixels: np.ndarray,
        encoding: str = "bgr8",
        stamp_ns: int | None = None,
    ) -> None:
        height, width = pixels.shape[:2]
        step = pixels[0].size * pixels.itemsize
        header = self.header(
            time_ns - 3 * MS if stamp_ns is None else stamp_ns, topic.split("/")[1]
        )
        data = np.ascontiguousarray(pixels).view(np.uint8).reshape(-1)
        message = self.types.types[IMAGE](header, height, width, encoding, 0, step, data)
        self.write(topic, IMAGE, time_ns, message)

    def jpeg(self, topic: str, time_ns: int, pixels: np.ndarray, suffix: str = ".jpg") -> None:
        _, content = cv2.imencode(suffix, pixels)
        header = self.header(time_ns - 3 * MS, topic.split("/")[1])
        message = self.types.types[COMPRESSED](
            header, "jpeg" if suffix == ".jpg" else "png", content.reshape(-1)
        )
        self.write(topic, COMPRESSED, time_ns, message)

    def info(
        self,
        topic: str,
        time_ns: int,
        stamp_ns: int,
        focal: float = FOCAL,
        size: tuple[int, int] = SIZE,
    ) -> None:
        header = self.header(stamp_ns, topic.split("/")[1])
        x, y = CENTRE
        k = np.array([focal, 0, x, 0, focal, y, 0, 0, 1.0])
        p = np.array([focal, 0, x, 0, 0, focal, y, 0, 0, 0, 1.0, 0])
        roi = self.types.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        rest = (size[1], size[0], "plumb_bob", np.zeros(5), k, np.eye(3).reshape(-1), p, 0, 0, roi)
        self.write(topic, INFO, time_ns, self.types.types[INFO](header, *rest))

    def text(self, topic: str, time_ns: int, words: str) -> None:
        self.write(topic, TEXT, time_ns, self.types.types[TEXT](words))

    def steering(self, topic: str, time_ns: int, angle: float) -> None:
        message = self.types.types[OWN](angle, np.arange(5, dtype=np.uint8))
        self.write(topic, OWN, time_ns, message)

    def write(self, topic: str, kind: str, time_ns: int, message: Any) -> None:
        self.write_bytes(topic, kind, time_ns, bytes(self.types.serialize_cdr(message, kind)))

    def write_bytes(self, topic: str, kind: str, time_ns: int, data: bytes) -> None:
        if topic not in self.connections:
            qos = [LATCHED] if kind == TEXT else []
            self.connections[topic] = self.writer.add_connection(
                topic, kind, typestore=self.types, offered_qos_profiles=qos
            )
        self.writer.write(self.connections[topic], time_ns, data[: self.cut])


def make_drive(
    folder: Path,
    frames: int = 4,
    storage: str = "sqlite3",
    version: Any = 9,
    size: tuple[int, int] = SIZE,
) -> Path:
    """One camera at 10 Hz with its CameraInfo, a latched text, and a type of the vehicle's own."""
    maker = BagMaker(folder, storage, version)
    with maker.writer:
        maker.text("/robot_description", START_NS, "<robot/>")
        for index in range(frames):
            now = START_NS + index * 100 * MS
            maker.image("/camera/image_raw", now, street(index, size))
            # As drivers do: with the image's stamp, recorded a little later.
            maker.info("/camera/camera_info", now + MS, now - 3 * MS, size=size)
            maker.steering("/steering", now + 50 * MS, index / 10)
    return folder


def messages(folder: Path) -> list[tuple[str, str, str, int, bytes]]:
    """Topic, type, QoS, time and bytes of each message, in the order in which readers see them."""
    with Reader(folder) as reader:
        return [
            (each.topic, each.msgtype, str(each.ext), when, bytes(data))
            for each, when, data in reader.messages()
        ]


def metadata(folder: Path) -> str:
    return (folder / "metadata.yaml").read_text()
