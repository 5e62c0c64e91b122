"""A rosbag2 as INPUT, sqlite3 or mcap, read without ROS by the rosbags library."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unirestore_ros.recordings.errors import MediaError
from unirestore_ros.recordings.pictures import bgr_of, decompressed
from unirestore_ros.recordings.sources import SourceFrame

if TYPE_CHECKING:
    from rosbags.highlevel import AnyReader

_RAW, _COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


@dataclasses.dataclass(frozen=True)
class BagSource:
    """The images of one topic of a bag, at their own times."""

    folder: Path
    topic: str
    length: int | None

    @property
    def description(self) -> str:
        return f"{self.topic} of the bag {self.folder}"

    def frames(self) -> Iterator[SourceFrame]:
        with _reader(self.folder) as reader:
            connections = [each for each in reader.connections if each.topic == self.topic]
            first: int | None = None
            for connection, received, data in reader.messages(connections):
                message: Any = reader.deserialize(data, connection.msgtype)
                stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec or received
                first = stamp if first is None else first
                yield SourceFrame(self._decoded(message, connection.msgtype), stamp - first)

    def _decoded(self, message: Any, kind: str) -> np.ndarray:
        try:
            return bgr_of(message) if kind == _RAW else decompressed(message.data)
        except ValueError as error:
            raise MediaError(f"{self.description}: {error}") from error


def open_bag(path: Path, topic: str | None) -> BagSource:
    """A bag by its folder or one of its files; MediaError where there is nothing to play in it."""
    folder = path if path.is_dir() else path.parent
    if not (folder / "metadata.yaml").is_file():
        raise MediaError(f"{folder} has no metadata.yaml: `ros2 bag reindex` makes one")
    if importlib.util.find_spec("rosbags") is None:
        raise MediaError("reading a bag needs rosbags: pip install 'unirestore_ros[bag]'")
    with _reader(folder) as reader:
        counts: dict[str, int] = {}
        for connection in reader.connections:
            if connection.msgtype in (_RAW, _COMPRESSED):
                counts[connection.topic] = counts.get(connection.topic, 0) + connection.msgcount
    if not counts:
        raise MediaError(f"the bag {folder} has no topic of sensor_msgs/Image or CompressedImage")
    chosen = next(iter(counts)) if topic is None else topic
    if chosen not in counts:
        raise MediaError(f"the bag {folder} has no images on {topic}, but on {', '.join(counts)}")
    return BagSource(folder, chosen, counts[chosen])


@contextlib.contextmanager
def _reader(folder: Path) -> Iterator[AnyReader]:
    from rosbags.highlevel import AnyReader, AnyReaderError
    from rosbags.typesys import Stores, get_typestore

    # For bags without message definitions; images are the same in every ROS 2.
    types = get_typestore(Stores.ROS2_HUMBLE)
    try:
        with AnyReader([folder], default_typestore=types) as reader:
            yield reader
    except AnyReaderError as error:
        raise MediaError(f"the bag {folder} cannot be read: {error}") from error
