"""The metadata_props of an ONNX file, read and added to without loading the graph.

An ONNX file is one protobuf message, ModelProto (onnx/onnx.proto): metadata_props is its repeated
field 14, of messages with key = 1 and value = 2. Protobuf defines two serialised messages one after
the other as their merge, so an entry is added by appending it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

_METADATA_PROPS = 14
_KEY, _VALUE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_metadata(path: Path) -> dict[str, str]:
    """All metadata_props; ValueError where the file is not a protobuf message."""
    with path.open("rb") as stream:
        return dict(
            _entry(stream, start, length)
            for number, start, length in _fields(stream, 0, os.fstat(stream.fileno()).st_size)
            if number == _METADATA_PROPS
        )


def add_metadata(path: Path, entries: Mapping[str, str]) -> None:
    """Append the entries that the file does not have; ValueError where it has one otherwise."""
    present = read_metadata(path)
    for key, value in entries.items():
        if present.get(key, value) != value:
            raise ValueError(f"{path.name} carries {key} = {present[key]}, not {value}")
    new = {key: value for key, value in entries.items() if key not in present}
    with path.open("ab") as stream:
        for key, value in new.items():
            entry = _bytes_field(_KEY, key.encode()) + _bytes_field(_VALUE, value.encode())
            stream.write(_bytes_field(_METADATA_PROPS, entry))


def _entry(stream: BinaryIO, start: int, length: int) -> tuple[str, str]:
    texts = {_KEY: "", _VALUE: ""}
    for number, first, size in _fields(stream, start, start + length):
        stream.seek(first)
        texts[number] = stream.read(size).decode()
    return texts[_KEY], texts[_VALUE]


def _fields(stream: BinaryIO, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, first byte and length of each length-delimited field between two positions."""
    while position < end:
        stream.seek(position)
        tag = _read_varint(stream)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _read_varint(stream)
            position = stream.tell()
        elif wire == _BYTES:
            length = _read_varint(stream)
            start = stream.tell()
            position = start + length
            yield number, start, length
        elif wire in (_FIXED64, _FIXED32):
            position = stream.tell() + (8 if wire == _FIXED64 else 4)
        else:
            raise ValueError("it is not an ONNX file")
    if position != end:
        raise ValueError("it is cut short")


def _read_varint(stream: BinaryIO) -> int:
    value = shift = 0
    while piece := stream.read(1):
        value |= (piece[0] & 0x7F) << shift
        if not piece[0] & 0x80:
            return value
        shift += 7
    raise ValueError("it is cut short")


def _bytes_field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    pieces = bytearray()
    while value > 0x7F:
        pieces.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*pieces, value))
