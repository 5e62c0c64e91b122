"""What a page's client is sent: a header in JSON and pictures, in one binary message.

    4 bytes, big-endian: length of the header; the header; the parts one after another

The header's ``parts`` are pairs of a name and a length in bytes. Names: ``driver`` and ``camera``,
JPEG pictures; ``area``, a transparent PNG to lay over them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from enum import Enum
from typing import Any

_LENGTH = struct.Struct(">I")


class Stream(Enum):
    """Which pictures a client is sent."""

    DRIVER = "driver"
    CAMERA = "camera"
    BOTH = "both"


def write_packet(header: Mapping[str, Any], parts: Mapping[str, bytes]) -> bytes:
    lengths = [[name, len(content)] for name, content in parts.items()]
    text = json.dumps({**header, "parts": lengths}, separators=(",", ":")).encode()
    return b"".join((_LENGTH.pack(len(text)), text, *parts.values()))


def read_packet(message: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Header and parts; ValueError where the message is not sound."""
    if len(message) < _LENGTH.size:
        raise ValueError("the packet has no header")
    (length,) = _LENGTH.unpack_from(message)
    position = _LENGTH.size + length
    header: dict[str, Any] = json.loads(message[_LENGTH.size : position])
    parts = {}
    for name, size in header.pop("parts"):
        parts[name] = message[position : position + size]
        position += size
    if position != len(message):
        raise ValueError(f"the packet has {len(message)} bytes, its header says {position}")
    return header, parts
