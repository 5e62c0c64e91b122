"""Write rosbag2 folders that every ROS 2 distribution from Humble on plays."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

from rosbags.interfaces import (
    Connection,
    MessageDefinitionFormat,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import (
    Stores,
    TypesysError,
    get_types_from_idl,
    get_types_from_msg,
    get_typestore,
)

from unirestore_ros.recordings.headers import ros_types
from unirestore_ros.recordings.storage import Reader, qos_of

# Format versions that rosbags writes. Humble and Iron read QoS as text, and fail on the list of
# version 9; Jazzy and later read both.
_TEXT_QOS: Literal[8] = 8
_LIST_QOS: Literal[9] = 9
_FOREVER = QosTime(2147483647, 4294967295)
_UNKNOWN_DIGEST = "RIHS01_" + "0" * 64

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

_log = logging.getLogger(__name__)


def new_writer(folder: Path, storage: str, like: Reader | None = None) -> Writer:
    """Begin a bag at ``folder``, which must be absent, in the compression of ``like``, and in its
    version where that is one that Humble does not read."""
    is_newer = like is not None and like.metadata.version >= _LIST_QOS
    writer = Writer(
        folder,
        version=_LIST_QOS if is_newer else _TEXT_QOS,
        storage_plugin=StoragePlugin[storage.upper()],
    )
    if like is not None and like.metadata.compression_mode:
        mode = CompressionMode[like.metadata.compression_mode.upper()]
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
        offered_qos_profiles=qos_of(connection),
    )


def new_connection(writer: Writer, topic: str, kind: str) -> Connection:
    """Add a topic of one of ROS's own types, offered as cameras and restore_node do."""
    return writer.add_connection(
        topic, kind, typestore=ros_types(), offered_qos_profiles=[RELIABLE]
    )


def _definition(connection: Connection) -> tuple[str, str]:
    """Return definition and hash of a type. Older bags hold neither: then ROS's own types get those
    of Humble, and any other an empty definition, which readers take for none."""
    kind, text = connection.msgtype, connection.msgdef.data
    if text and connection.digest:
        return text, connection.digest
    types = ros_types()
    try:
        if text or kind not in types.fielddefs:
            types = get_typestore(Stores.EMPTY)
            types.register(_parsed(connection) if text else get_types_from_msg("", kind))
        definition, _ = types.generate_msgdef(kind, ros_version=2)
        return text or definition, types.hash_rihs01(kind)
    except (TypesysError, ValueError, KeyError):
        _log.warning("%s is copied; its type %s is not described", connection.topic, kind)
        return text, _UNKNOWN_DIGEST


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
