"""rosbag2 folders read and written as they are: messages stay the bytes that were recorded.

The rosbags library does the formats (sqlite3 and mcap). Nothing is deserialised here, so that a bag
with types that this machine has never heard of is copied like any other.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

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

from unirestore_ros.recordings.errors import MediaError

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
STORAGES = ("sqlite3", "mcap")
# Format versions that rosbags writes: Humble and Iron read QoS as text, Jazzy and later as a list.
_TEXT_QOS: Literal[8] = 8
_LIST_QOS: Literal[9] = 9
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
    """ROS's own types, as of Humble; not to be added to."""
    return get_typestore(Stores.ROS2_HUMBLE)


def bag_folder(path: Path) -> Path:
    """The folder of a bag, given it or one of its files; MediaError where there is none."""
    if not path.exists():
        raise MediaError(f"there is no bag {path}")
    folder = path if path.is_dir() else path.parent
    if not (folder / "metadata.yaml").is_file():
        raise MediaError(f"{folder} has no metadata.yaml: `ros2 bag reindex` makes one")
    return folder


@contextlib.contextmanager
def open_reader(path: Path) -> Iterator[Reader]:
    """A bag opened to be read in the order of its times; MediaError where it cannot be."""
    folder = bag_folder(path)
    try:
        with Reader(folder) as reader:
            yield reader
    except ReaderError as error:
        raise MediaError(f"the bag {folder} cannot be read: {error}") from error


def files_of(folder: Path) -> dict[str, int]:
    """A bag's files but its metadata, with their sizes in bytes."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    return {name: (folder / name).stat().st_size for name in names if name != "metadata.yaml"}


def storage_of(folder: Path) -> str:
    """``sqlite3`` or ``mcap``, by the files that a bag has."""
    return "mcap" if any(".mcap" in name for name in files_of(folder)) else "sqlite3"


def custom_data_of(reader: Reader) -> dict[str, str]:
    """What recorders and tools have noted in the metadata."""
    return dict(reader.storage.metadata.custom or {})


def new_writer(folder: Path, storage: str, like: Reader | None = None) -> Writer:
    """A bag to be written at ``folder``, which must be absent; of the version and compression of
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
    """The same topic, type and QoS in another bag."""
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
    """A topic of one of ROS's own types, offered as cameras and restore_node do."""
    return writer.add_connection(
        topic, kind, typestore=ros_types(), offered_qos_profiles=[RELIABLE]
    )


def qos_of(connection: Connection) -> list[Qos]:
    return _ext(connection).offered_qos_profiles


def _definition(connection: Connection) -> tuple[str, str]:
    """Definition and hash of a type. Older bags hold neither: then ROS's own types have those of
    Humble, and any other gets an empty definition, which readers take for none."""
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
    """The types that a definition in a bag defines."""
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
