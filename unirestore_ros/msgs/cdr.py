"""Image messages read and written in place, in the form in which they travel.

A raw subscription hands over a message as the bytes that came over the network: OMG's Common Data
Representation (CDR), in which each number lies at a multiple of its size, counted from the end of a
4-byte header. Reading the few fields before an image's pixels takes microseconds. Building the
Python message takes more than a millisecond for a 1080p frame, and serialising it again another.
Likewise an image that is sent is written into the bytes that leave.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]

_HEADER_BYTES = 4
# Second byte of the header, for plain CDR of version 1 and 2; no field here has 8 bytes, which is
# where the versions differ.
_BYTE_ORDERS = {0x00: ">", 0x01: "<", 0x06: ">", 0x07: "<"}
_LITTLE_ENDIAN_CDR = bytes((0, 1, 0, 0))
# A name of an encoding or a frame has tens of characters: more is no camera's message.
_LONGEST_TEXT = 1024


class MalformedMessage(ValueError):
    """A message that contradicts itself. Nothing can be made of it, so it is dropped."""


class UnsupportedFrame(ValueError):
    """A sound message that cannot be restored, for its encoding or size. It is relayed as it is."""


@dataclass(frozen=True)
class ImageView:
    """A `sensor_msgs/Image` whose ``data`` are the bytes of the message itself."""

    sec: int
    nanosec: int
    frame_id: str
    height: int
    width: int
    encoding: str
    is_bigendian: bool
    """Whether pixels of 16 bits have their high byte first."""
    step: int
    data: Bytes


@dataclass(frozen=True)
class CompressedView:
    """A `sensor_msgs/CompressedImage` whose ``data`` are the bytes of the message itself."""

    sec: int
    nanosec: int
    frame_id: str
    format: str
    data: Bytes


def view_image(message: bytes) -> ImageView:
    """View a serialised message; MalformedMessage where it ends early or is not CDR."""
    reader = _Reader(message)
    sec, nanosec, frame_id = reader.header()
    height, width = reader.uint32(), reader.uint32()
    encoding, is_bigendian = reader.text(), reader.byte() != 0
    step, data = reader.uint32(), reader.data()
    return ImageView(sec, nanosec, frame_id, height, width, encoding, is_bigendian, step, data)


def view_compressed(message: bytes) -> CompressedView:
    """View a serialised message; MalformedMessage where it ends early or is not CDR."""
    reader = _Reader(message)
    return CompressedView(*reader.header(), reader.text(), reader.data())


def new_image(
    sec: int,
    nanosec: int,
    frame_id: str,
    height: int,
    width: int,
    encoding: str,
    step: int,
) -> tuple[Bytes, Bytes]:
    """Make a serialised `sensor_msgs/Image` (bytes,) uint8, and the part of it, (height * step,)
    uint8, that the caller fills with pixels."""
    head = _header(sec, nanosec, frame_id) + struct.pack("<II", height, width)
    head = head + _text(encoding) + bytes([sys.byteorder == "big"])
    return _message(head + _padding(head) + struct.pack("<I", step), height * step)


def new_compressed(sec: int, nanosec: int, frame_id: str, kind: str, content: Bytes) -> Bytes:
    """Make a serialised `sensor_msgs/CompressedImage`, (bytes,) uint8; ``kind`` is its format."""
    head = _header(sec, nanosec, frame_id) + _text(kind)
    message, data = _message(head + _padding(head), content.size)
    data[:] = content
    return message


def _message(head: bytes, length: int) -> tuple[Bytes, Bytes]:
    """Make a message that ends with an array of bytes: all of it, and the array, not yet
    written."""
    start = _LITTLE_ENDIAN_CDR + head + struct.pack("<I", length)
    message = np.empty(len(start) + length, np.uint8)
    message[: len(start)] = np.frombuffer(start, np.uint8)
    return message, message[len(start) :]


def _header(sec: int, nanosec: int, frame_id: str) -> bytes:
    head = struct.pack("<iI", sec, nanosec) + _text(frame_id)
    return head + _padding(head)


def _text(text: str) -> bytes:
    content = text.encode() + b"\0"
    return struct.pack("<I", len(content)) + content


def _padding(head: bytes) -> bytes:
    """Return zeros up to where the next number may lie."""
    return bytes(-len(head) % 4)


class _Reader:
    """Reads fields one after another."""

    def __init__(self, message: bytes) -> None:
        if len(message) < _HEADER_BYTES or message[1] not in _BYTE_ORDERS:
            raise MalformedMessage("the message is not in CDR")
        order = _BYTE_ORDERS[message[1]]
        self._message = message
        self._position = _HEADER_BYTES
        self._uint32 = struct.Struct(order + "I")
        self._int32 = struct.Struct(order + "i")
        self._uint8 = struct.Struct("B")

    def header(self) -> tuple[int, int, str]:
        return self._number(self._int32), self.uint32(), self.text()

    def uint32(self) -> int:
        return self._number(self._uint32)

    def byte(self) -> int:
        return self._number(self._uint8)

    def text(self) -> str:
        length = self.uint32()  # counts the zero at the end
        if length > _LONGEST_TEXT:
            raise MalformedMessage(f"a text of {length} bytes where a name is due")
        end = self._position + length
        piece = self._message[self._position : max(self._position, end - 1)]
        self._position = end
        return piece.decode("utf-8", errors="replace")

    def data(self) -> Bytes:
        length = self.uint32()
        present = len(self._message) - self._position
        if present < length:
            raise MalformedMessage(f"the message ends after {present} of {length} bytes of data")
        return np.frombuffer(self._message, np.uint8, length, self._position)

    def _number(self, kind: struct.Struct) -> int:
        self._position += -(self._position - _HEADER_BYTES) % kind.size
        try:
            (value,) = kind.unpack_from(self._message, self._position)
        except struct.error:
            raise MalformedMessage("the message ends before its data") from None
        self._position += kind.size
        return int(value)
