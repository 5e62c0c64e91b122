"""The records of an MCAP file, one at a time, and what is compressed in them.

https://mcap.dev/spec describes the format.
"""

from __future__ import annotations

import contextlib
import struct
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import lz4.frame

from unirestore_ros.recordings.storage_file import LARGEST_MESSAGE, StoredMessage

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Buffer: TypeAlias = bytes | memoryview
"""Views spare copies of images, of which a chunk has megabytes."""

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, INDEX, CHUNK_INDEX = range(1, 9)
STATISTICS, LAST_OPCODE = 0x0B, 0x0F
RECORD = struct.Struct("<BQ")
MESSAGE_HEAD = struct.Struct("<HIQQ")
CHUNK_HEAD = struct.Struct("<QQQI")
FOOTER_FIELDS = struct.Struct("<QQI")
_CHUNK_INDEX_HEAD = struct.Struct("<QQQQ")


class ChunkPlace(NamedTuple):
    """Where a chunk's record lies, and the times of its messages."""

    start_ns: int
    end_ns: int
    offset: int
    length: int
    """The record's, including opcode and length."""
    channels: frozenset[int]
    """Those that have messages in it."""


def spans_of(content: Buffer) -> Iterator[tuple[int, int, int]]:
    """Yield opcode, start and end of records that follow one another, up to the first damaged
    one."""
    place = 0
    while place + RECORD.size <= len(content):
        opcode, length = RECORD.unpack_from(content, place)
        place += RECORD.size
        if not 0 < opcode <= LAST_OPCODE or place + length > len(content):
            return
        yield opcode, place, place + length
        place += length


def records_of(content: Buffer) -> Iterator[tuple[int, bytes]]:
    """Yield opcode and content of each record but the messages, of which it is the head."""
    for opcode, start, end in spans_of(content):
        last = start + MESSAGE_HEAD.size if opcode == MESSAGE else end
        yield opcode, bytes(content[start:last])


def messages_of(content: Buffer, wanted: Collection[int]) -> Iterator[StoredMessage]:
    """Yield the messages of those channels, in the order in which they were written."""
    for opcode, start, end in spans_of(content):
        if opcode != MESSAGE or end - start < MESSAGE_HEAD.size:
            continue
        channel, _, time_ns, _ = MESSAGE_HEAD.unpack_from(content, start)
        if channel in wanted:
            data = bytes(content[start + MESSAGE_HEAD.size : end])
            yield StoredMessage(channel, time_ns, data)


def read_chunk_index(content: bytes) -> ChunkPlace:
    start_ns, end_ns, offset, length = _CHUNK_INDEX_HEAD.unpack_from(content)
    fields = Fields(content, _CHUNK_INDEX_HEAD.size)
    offsets = fields.block()
    channels = frozenset(channel for channel, _ in struct.iter_unpack("<HQ", offsets))
    return ChunkPlace(start_ns, end_ns, offset, length, channels)


def read_statistics(content: bytes) -> tuple[int, int, Counter[int]]:
    """Return messages, chunks, and messages by channel."""
    total, _, _, _, _, chunks = struct.unpack_from("<QHIIII", content)
    fields = Fields(content, struct.calcsize("<QHIIIIQQ"))
    counts = dict(struct.iter_unpack("<HQ", fields.block()))
    return total, chunks, Counter(counts)


class Fields:
    """Reads a record's fields one after another; struct.error or ValueError where they end."""

    def __init__(self, content: Buffer, place: int = 0) -> None:
        self._content = content
        self.place = place

    def uint16(self) -> int:
        return self._number("<H", 2)

    def uint64(self) -> int:
        return self._number("<Q", 8)

    def block(self) -> bytes:
        length = self._number("<I", 4)
        if self.place + length > len(self._content):
            raise ValueError("a field ends after its record")
        self.place += length
        return bytes(self._content[self.place - length : self.place])

    def text(self) -> str:
        return self.block().decode()

    def texts(self) -> dict[str, str]:
        inner = Fields(self.block())
        found = {}
        while inner.place < len(inner._content):
            key = inner.text()
            found[key] = inner.text()
        return found

    def _number(self, form: str, size: int) -> int:
        (value,) = struct.unpack_from(form, self._content, self.place)
        self.place += size
        return int(value)


def unpack(packed: Buffer, compression: str, limit: int) -> Buffer:
    """Unpack what can be unpacked of cut-off or damaged bytes, to at most ``limit``."""
    if compression == "":
        return packed[:limit]
    reader = zstd.ZstdDecompressor() if compression == "zstd" else lz4.frame.LZ4FrameDecompressor()
    pieces, size = [], 0
    # In steps, so that what comes before the damage is kept.
    with contextlib.suppress(zstd.ZstdError, RuntimeError, EOFError, MemoryError):
        for start in range(0, len(packed), 1 << 16):
            piece = packed[start : start + (1 << 16)]
            while not reader.eof and size < limit:
                pieces.append(reader.decompress(piece, limit - size))
                size += len(pieces[-1])
                piece = b""
                if reader.needs_input:
                    break
    return b"".join(pieces)


def unpack_message(packed: bytes) -> bytes | None:
    """Unpack a zstd-compressed message; None where it is damaged."""
    reader = zstd.ZstdDecompressor()
    try:
        content = reader.decompress(packed, LARGEST_MESSAGE)
    except (zstd.ZstdError, MemoryError):
        return None
    return content if reader.eof else None


def unpack_file(packed: Path, out: Path) -> bool:
    """Unpack a zstd-compressed file as far as that goes; returns whether to its end."""
    with packed.open("rb") as source, out.open("wb") as target:
        reader = zstd.ZstdDecompressor()
        while not reader.eof and (piece := source.read(1 << 20)):
            try:
                target.write(reader.decompress(piece))
            except zstd.ZstdError:
                return False
    return reader.eof
