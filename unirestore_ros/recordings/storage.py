"""Read and write rosbag2 folders: messages stay the bytes that were recorded.

The rosbags library does the formats (sqlite3 and mcap). Nothing is deserialised here, so that a bag
with message types that are not installed on this machine is copied like any other. Only headers are
read and rewritten, in place.
"""

from __future__ import annotations

import contextlib
import functools
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinitionFormat,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import (
    CompressionFormat,
    CompressionMode,
    Reader,
    ReaderError,
    StoragePlugin,
    Writer,
)
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from unirestore_ros.recordings import RecordingError

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
STORAGES = ("sqlite3", "mcap")
# Format versions that rosbags writes: Humble and Iron read QoS as text, Jazzy and later as a list.
_TEXT_QOS: Literal[8] = 8
_LIST_QOS: Literal[9] = 9
_FIRST_FIELD = re.compile(r"\s*([A-Za-z][\w/]*)(?:\[\])?\s+(\w+)")
# After CDR's own 4 bytes: seconds, nanoseconds, length of frame_id with its zero.
_STAMP = {0: struct.Struct(">iI"), 1: struct.Struct("<iI")}
_LENGTH = {0: struct.Struct(">I"), 1: struct.Struct("<I")}
_STAMP_AT, _LENGTH_AT, _TEXT_AT = 4, 12, 16
_FOREVER = QosTime(2147483647, 4294967295)

# What a camera's driver and restore_node offer, and what recorders keep of it.
RELIABLE = Qos(
    QosHistory.KEEP_LAST,
    1,
    QosReliability.RELIABLE,
    QosDurability.VOLATILE,
    _FOREVER,
    _FOREVER,
    QosLiveliness.AUTOMATIC,
    _FOREVER,
    False,
)


@functools.cache
def ros_types() -> Typestore:
    """Return ROS's own types, as of Humble; not to be added to."""
    return get_typestore(Stores.ROS2_HUMBLE)


def bag_folder(path: Path) -> Path:
    """Find a bag's folder, given it or one of its files; RecordingError where there is none."""
    if not path.exists():
        raise RecordingError(f"there is no bag {path}")
    folder = path if path.is_dir() else path.parent
    if not (folder / "metadata.yaml").is_file():
        raise RecordingError(f"{folder} has no metadata.yaml: `ros2 bag reindex` makes one")
    return folder


@contextlib.contextmanager
def open_reader(path: Path) -> Iterator[Reader]:
    """Open a bag to be read in the order of its times; RecordingError where that fails."""
    folder = bag_folder(path)
    try:
        with Reader(folder) as reader:
            yield reader
    except ReaderError as error:
        raise RecordingError(f"the bag {folder} cannot be read: {error}") from error


def image_topics(reader: Reader, wanted: Sequence[str] = ()) -> dict[str, list[Connection]]:
    """Find the connections of each topic of images, or of those ``wanted``; RecordingError where a
    bag has none."""
    found: dict[str, list[Connection]] = {}
    for connection in reader.connections:
        if connection.msgtype in (IMAGE, COMPRESSED_IMAGE):
            found.setdefault(connection.topic, []).append(connection)
    if not found:
        raise RecordingError(
            f"the bag {reader.path} has no topic of sensor_msgs/Image or CompressedImage"
        )
    for topic in wanted:
        if topic not in found:
            raise RecordingError(
                f"the bag {reader.path} has no images on {topic}, but on {', '.join(found)}"
            )
    return {topic: found[topic] for topic in wanted} if wanted else found


def message_at(reader: Reader, topic: str, time_ns: int) -> bytes:
    """Read the message of a topic that was recorded at that very time."""
    connections = [connection for connection in reader.connections if connection.topic == topic]
    for _, _, data in reader.messages(connections, time_ns, time_ns + 1):
        return data
    raise RecordingError(f"the bag {reader.path} has no message of {topic} at {time_ns}")


def files_of(folder: Path) -> dict[str, int]:
    """List a bag's files but its metadata, with their sizes in bytes."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    return {name: (folder / name).stat().st_size for name in names if name != "metadata.yaml"}


def storage_of(folder: Path) -> str:
    """Return ``sqlite3`` or ``mcap``, by the files that a bag has."""
    return "mcap" if any(".mcap" in name for name in files_of(folder)) else "sqlite3"


def custom_data_of(reader: Reader) -> dict[str, str]:
    """Return what recorders and tools have noted in the metadata."""
    return dict(reader.storage.metadata.custom or {})


def new_writer(folder: Path, storage: str, like: Reader | None = None) -> Writer:
    """Begin a bag at ``folder``, which must be absent, in the version and compression of
    ``like``."""
    writer = Writer(
        folder,
        version=_TEXT_QOS
        if like is not None and _has_text_qos(Path(str(like.path)))
        else _LIST_QOS,
        storage_plugin=StoragePlugin[storage.upper()],
    )
    if like is not None and like.compression_mode:
        mode = CompressionMode[like.compression_mode.upper()]
        writer.set_compression(mode, CompressionFormat.ZSTD)
    return writer


def copy_connection(writer: Writer, connection: Connection) -> Connection:
    """Add the same topic, type and QoS to another bag."""
    definition, digest = _definition(connection)
    return writer.add_connection(
        connection.topic,
        connection.msgtype,
        msgdef=definition,
        rihs01=digest,
        serialization_format=_ext(connection).serialization_format,
        offered_qos_profiles=_ext(connection).offered_qos_profiles,
    )


def new_connection(writer: Writer, topic: str, kind: str) -> Connection:
    """Add a topic of one of ROS's own types, offered as cameras and restore_node do."""
    return writer.add_connection(
        topic, kind, typestore=ros_types(), offered_qos_profiles=[RELIABLE]
    )


def qos_of(connection: Connection) -> list[Qos]:
    return _ext(connection).offered_qos_profiles


class Header(NamedTuple):
    """Stamp in nanoseconds, and frame_id."""

    stamp_ns: int
    frame_id: str


def has_header(connection: Connection) -> bool:
    """Whether messages begin with a std_msgs/Header, by their definition in the bag, or by ROS's
    own where it has none."""
    text = connection.msgdef.data
    if not text:
        kind = ros_types().fielddefs.get(connection.msgtype)
        return kind is not None and [name for name, _ in kind[1][:1]] == ["header"]
    for line in text.split("=" * 80)[0].splitlines():
        found = _FIRST_FIELD.match(line.partition("#")[0])
        if found is not None and "=" not in line.partition("#")[0]:
            return found[1] in ("std_msgs/Header", "std_msgs/msg/Header", "Header")
    return False


def read_header(data: bytes, place: int = 0) -> Header | None:
    """Read the header ``place`` bytes after a message's beginning; None for too few bytes."""
    order = data[1] & 1 if len(data) > 1 else 0
    try:
        sec, nanosec = _STAMP[order].unpack_from(data, _STAMP_AT + place)
        (length,) = _LENGTH[order].unpack_from(data, _LENGTH_AT + place)
    except struct.error:
        return None
    start = _TEXT_AT + place
    text = data[start : start + max(0, length - 1)]
    return Header(sec * 10**9 + nanosec, text.decode("utf-8", errors="replace"))


def with_stamp(data: bytes, stamp_ns: int) -> bytes:
    """Return the same message with another stamp."""
    changed = bytearray(data)
    _STAMP[data[1] & 1].pack_into(changed, _STAMP_AT, *divmod(stamp_ns, 10**9))
    return bytes(changed)


def _definition(connection: Connection) -> tuple[str, str]:
    """Return definition and hash of a type. Older bags hold neither: then ROS's own types get those
    of Humble, and any other an empty definition, which readers take for none."""
    kind, text = connection.msgtype, connection.msgdef.data
    if text and connection.digest:
        return text, connection.digest
    types = ros_types()
    if text or kind not in types.fielddefs:
        types = get_typestore(Stores.EMPTY)
        types.register(_parsed(connection) if text else get_types_from_msg("", kind))
    definition, _ = types.generate_msgdef(kind, ros_version=2)
    return text or definition, types.hash_rihs01(kind)


def _parsed(connection: Connection) -> Any:
    """Parse the types that a definition in a bag defines."""
    text = connection.msgdef.data
    if connection.msgdef.format is MessageDefinitionFormat.MSG:
        return get_types_from_msg(text, connection.msgtype)
    # Each file of IDL comes after a rule and a line with its name.
    pieces = text.split("=" * 80 + "\n")
    return {
        name: fields
        for piece in pieces
        if piece.strip()
        for name, fields in get_types_from_idl(piece.partition("\n")[2]).items()
    }


def _ext(connection: Connection) -> ConnectionExtRosbag2:
    assert isinstance(connection.ext, ConnectionExtRosbag2)  # of a rosbag2 there is no other
    return connection.ext


def _has_text_qos(folder: Path) -> bool:
    """Whether the bag's metadata is of a version before 9."""
    found = re.search(r"^\s+version:\s*(\d+)", (folder / "metadata.yaml").read_text(), re.MULTILINE)
    return found is not None and int(found[1]) < _LIST_QOS
