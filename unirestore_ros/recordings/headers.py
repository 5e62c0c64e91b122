"""The headers of serialised messages, read and rewritten in place."""

from __future__ import annotations

import functools
import re
import struct
from typing import NamedTuple

from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

_FIRST_FIELD = re.compile(r"\s*([A-Za-z][\w/]*)(?:\[\])?\s+(\w+)")
# After CDR's own 4 bytes: seconds, nanoseconds, length of frame_id with its zero.
_STAMP = {0: struct.Struct(">iI"), 1: struct.Struct("<iI")}
_LENGTH = {0: struct.Struct(">I"), 1: struct.Struct("<I")}
_STAMP_AT, _LENGTH_AT, _TEXT_AT = 4, 12, 16


@functools.cache
def ros_types() -> Typestore:
    """Return ROS's own types, as of Humble; not to be added to."""
    return get_typestore(Stores.ROS2_HUMBLE)


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
