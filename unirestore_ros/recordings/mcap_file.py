"""Read an MCAP file, healthy or damaged: what is whole is read, what is not is counted.

A healthy file is found by its summary, at its end. Where that is missing (the recorder was killed)
or does not fit the file, the file is walked from its beginning, up to the damage; a chunk that is
cut off is unpacked as far as it goes. The rosbags library reads healthy files only.
"""

from __future__ import annotations

import dataclasses
import heapq
import os
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from unirestore_ros.recordings.mcap_records import (
    CHANNEL,
    CHUNK,
    CHUNK_HEAD,
    CHUNK_INDEX,
    FOOTER,
    FOOTER_FIELDS,
    LAST_OPCODE,
    MAGIC,
    MESSAGE,
    MESSAGE_HEAD,
    RECORD,
    SCHEMA,
    STATISTICS,
    Buffer,
    ChunkPlace,
    Fields,
    messages_of,
    read_chunk_index,
    read_statistics,
    records_of,
    unpack,
)
from unirestore_ros.recordings.storage_file import (
    LATEST_NS,
    FileDamaged,
    StoredMessage,
    StoredTopic,
    are_plausible,
)

_FOOTER_BYTES = RECORD.size + FOOTER_FIELDS.size + len(MAGIC)
_LARGEST_CHUNK = 1 << 30
_DEFINITIONS = {"ros2msg": "msg", "ros2idl": "idl", "omgidl": "idl"}


class _Loose(NamedTuple):
    """A message outside of chunks."""

    time_ns: int
    offset: int
    length: int
    channel: int


class McapFile:
    """One file, open. ``damage`` says in words what of it is not as it was written."""

    storage = "mcap"

    def __init__(self, path: Path) -> None:
        """Open and find the messages; FileDamaged where there is nothing to be read."""
        self.path = path
        self.topics: dict[int, StoredTopic] = {}
        self.damage: list[str] = []
        self.start_ns, self.end_ns = LATEST_NS, 0
        self._schemas: dict[int, tuple[str, str, str]] = {}
        self._chunks: list[ChunkPlace] = []
        self._loose: list[_Loose] = []
        self._expected: Counter[int] | None = None
        self._told = 0  # how many messages the statistics of a file that is walked tell of
        self._stream: BinaryIO = path.open("rb")
        try:
            self._size = os.fstat(self._stream.fileno()).st_size
            if self._at(0, len(MAGIC)) != MAGIC:
                raise FileDamaged("is empty" if self._size == 0 else "does not begin as an MCAP")
            if not self._has_read_summary():
                self._walk()
        except BaseException:
            self._stream.close()
            raise
        self._chunks.sort()
        self._loose.sort()

    def close(self) -> None:
        self._stream.close()

    @property
    def message_count(self) -> int:
        return sum(topic.messages for topic in self.topics.values())

    def messages(
        self, wanted: Collection[int], start_ns: int, end_ns: int
    ) -> Iterator[StoredMessage]:
        """Yield the messages of those topics and times, in the order of their times.

        What a damaged chunk no longer holds is added to ``damage`` at the end.
        """
        seen: Counter[int] = Counter()
        yield from heapq.merge(
            self._chunked_messages(wanted, start_ns, end_ns, seen),
            self._loose_messages(wanted, start_ns, end_ns),
            key=lambda each: each.time_ns,
        )
        if start_ns <= self.start_ns and end_ns > self.end_ns:
            self._note_missing(wanted, seen)

    def _chunked_messages(
        self, wanted: Collection[int], start_ns: int, end_ns: int, seen: Counter[int]
    ) -> Iterator[StoredMessage]:
        """Yield messages in chunks, which may overlap; ``seen`` counts them by channel, those of
        other times in the same chunks too."""
        waiting: list[tuple[int, int, int, StoredMessage]] = []
        for number, chunk in enumerate(self._chunks):
            while waiting and waiting[0][0] < chunk.start_ns:
                yield heapq.heappop(waiting)[3]
            if chunk.start_ns >= end_ns or chunk.end_ns < start_ns:
                continue
            if chunk.channels.isdisjoint(wanted):
                continue
            records, is_whole = self._unpacked(chunk.offset, chunk.length)
            if not is_whole and self._expected is not None:
                self._note(f"a chunk at byte {chunk.offset} is damaged")
            for place, found in enumerate(messages_of(records, wanted)):
                if chunk.start_ns <= found.time_ns <= chunk.end_ns:
                    seen[found.topic] += 1
                    if start_ns <= found.time_ns < end_ns:
                        heapq.heappush(waiting, (found.time_ns, number, place, found))
        while waiting:
            yield heapq.heappop(waiting)[3]

    def _loose_messages(
        self, wanted: Collection[int], start_ns: int, end_ns: int
    ) -> Iterator[StoredMessage]:
        for each in self._loose:
            if each.channel in wanted and start_ns <= each.time_ns < end_ns:
                yield StoredMessage(each.channel, each.time_ns, self._at(each.offset, each.length))

    def _note_missing(self, wanted: Collection[int], seen: Counter[int]) -> None:
        if self._expected is None:
            return  # the walk has said what is missing
        lost = {
            self.topics[channel].name: self._expected[channel] - seen[channel]
            for channel in wanted
            if self._expected[channel] > seen[channel]
        }
        if lost:
            words = ", ".join(f"{count} of {name}" for name, count in sorted(lost.items()))
            self._note(f"messages cannot be read: {words}")

    def _note(self, text: str) -> None:
        if text not in self.damage:
            self.damage.append(text)

    def _at(self, offset: int, length: int) -> bytes:
        if not 0 <= offset < self._size:
            return b""
        self._stream.seek(offset)
        return self._stream.read(max(0, min(length, self._size - offset)))

    def _has_read_summary(self) -> bool:
        """Read topics, chunks and counts from the file's end; False where it is no sound one."""
        summary = self._summary()
        if summary is None:
            return False
        statistics: Counter[int] | None = None
        total, chunks = -1, -1
        try:
            for opcode, content in summary:
                if opcode == SCHEMA:
                    self._add_schema(content)
                elif opcode == CHANNEL:
                    self._add_channel(content)
                elif opcode == CHUNK_INDEX:
                    self._chunks.append(read_chunk_index(content))
                elif opcode == STATISTICS:
                    total, chunks, statistics = read_statistics(content)
        except (struct.error, ValueError):
            statistics = None
        if statistics is None or not self._fits(total, chunks, statistics):
            self.topics, self._schemas, self._chunks = {}, {}, []
            return False
        self._expected = statistics
        for channel, topic in self.topics.items():
            self.topics[channel] = dataclasses.replace(topic, messages=statistics[channel])
        for chunk in self._chunks:
            if chunk.channels != frozenset():
                self._cover(chunk.start_ns, chunk.end_ns)
        return True

    def _summary(self) -> list[tuple[int, bytes]] | None:
        """Read the records of the summary; None where the file has no sound one."""
        footer = self._at(self._size - _FOOTER_BYTES, _FOOTER_BYTES)
        if len(footer) < _FOOTER_BYTES or not footer.endswith(MAGIC):
            return None
        opcode, length = RECORD.unpack_from(footer)
        start, _, crc = FOOTER_FIELDS.unpack_from(footer, RECORD.size)
        end = self._size - _FOOTER_BYTES
        if (opcode, length) != (FOOTER, FOOTER_FIELDS.size) or not 0 < start <= end:
            return None
        content = self._at(start, end - start)
        # The checksum covers the footer too, up to itself.
        if crc and zlib.crc32(content + footer[: RECORD.size + 16]) != crc:
            return None
        records = list(records_of(content))
        used = sum(RECORD.size + len(each) for _, each in records)
        return records if used == len(content) else None

    def _fits(self, total: int, chunks: int, statistics: Counter[int]) -> bool:
        """Tell whether the summary agrees with itself and with each chunk's own head."""
        if total != statistics.total() or chunks != len(self._chunks):
            return False
        if not set(statistics) <= set(self.topics) or (total and not self._chunks):
            return False  # messages outside of chunks are found by walking only
        for chunk in self._chunks:
            head = self._at(chunk.offset, RECORD.size + CHUNK_HEAD.size)
            if len(head) < RECORD.size + CHUNK_HEAD.size:
                return False
            opcode, length = RECORD.unpack_from(head)
            start_ns, end_ns, _, _ = CHUNK_HEAD.unpack_from(head, RECORD.size)
            if opcode != CHUNK or length + RECORD.size != chunk.length:
                return False
            if (start_ns, end_ns) != (chunk.start_ns, chunk.end_ns) or end_ns > LATEST_NS:
                return False
        return True

    def _walk(self) -> None:
        """Find topics and messages record by record, up to the end or the damage."""
        offset, is_ended = len(MAGIC), False
        while offset < self._size:
            head = self._at(offset, RECORD.size)
            opcode, length = RECORD.unpack(head) if len(head) == RECORD.size else (0, 0)
            end = offset + RECORD.size + length
            if opcode == FOOTER:  # one in the middle is damage
                is_ended = end + len(MAGIC) == self._size
                break
            if not 0 < opcode <= LAST_OPCODE or (end > self._size and opcode != CHUNK):
                break
            if not self._walk_record(opcode, offset, length):
                self._note(f"it is damaged at byte {offset} of {self._size}")
            offset = end
        self._drop_odd_times()
        if self._told > self.message_count:
            told = f"it tells of {self._told} messages"
            self._note(f"{told}, of which {self.message_count} can be read")
        if not is_ended:
            at = min(offset, self._size)
            self._note(f"it ends early, at byte {at} of {self._size}: read up to there")
        if not self.topics:
            raise FileDamaged(f"has no topic that can be read: {'; '.join(self.damage) or 'empty'}")

    def _walk_record(self, opcode: int, offset: int, length: int) -> bool:
        """Note what a record holds; False where it is damaged."""
        start = offset + RECORD.size
        if opcode == CHUNK:
            return self._walk_chunk(offset, length + RECORD.size)
        try:
            if opcode == STATISTICS:
                self._told, _, _ = read_statistics(self._at(start, length))
            if opcode == MESSAGE:
                channel, _, time_ns, _ = MESSAGE_HEAD.unpack(self._at(start, MESSAGE_HEAD.size))
                inside = start + MESSAGE_HEAD.size
                if channel not in self.topics:
                    return False
                size = length - MESSAGE_HEAD.size
                self._loose.append(_Loose(time_ns, inside, size, channel))
            else:
                self._add_definition(opcode, start, length)
        except (struct.error, ValueError):
            return False
        return True

    def _add_definition(self, opcode: int, start: int, length: int) -> None:
        if opcode == SCHEMA:
            self._add_schema(self._at(start, length))
        elif opcode == CHANNEL:
            self._add_channel(self._at(start, length))

    def _walk_chunk(self, offset: int, length: int) -> bool:
        records, is_whole = self._unpacked(offset, length)
        times: list[int] = []
        channels: set[int] = set()
        for opcode, content in records_of(records):
            try:
                if opcode == SCHEMA:
                    self._add_schema(content)
                elif opcode == CHANNEL:
                    self._add_channel(content)
                elif opcode == MESSAGE:
                    channel, _, time_ns, _ = MESSAGE_HEAD.unpack_from(content)
                    times.append(time_ns)
                    channels.add(channel)
            except (struct.error, ValueError):
                is_whole = False
        if times:
            plausible = [t for t, good in zip(times, are_plausible(times), strict=True) if good]
            if len(plausible) < len(times):
                self._note(f"{len(times) - len(plausible)} messages have times that cannot be")
            if plausible:
                chunk = ChunkPlace(
                    min(plausible), max(plausible), offset, length, frozenset(channels)
                )
                self._chunks.append(chunk)
                self._count_chunk(records, chunk)
        return is_whole

    def _count_chunk(self, records: Buffer, chunk: ChunkPlace) -> None:
        self._cover(chunk.start_ns, chunk.end_ns)
        for found in messages_of(records, self.topics):
            if chunk.start_ns <= found.time_ns <= chunk.end_ns:
                self._add_messages(found.topic, 1)

    def _drop_odd_times(self) -> None:
        """Leave out messages outside of chunks whose times cannot be; count the others."""
        good = are_plausible([each.time_ns for each in self._loose])
        kept = [each for each, is_good in zip(self._loose, good, strict=True) if is_good]
        if len(kept) < len(self._loose):
            self._note(f"{len(self._loose) - len(kept)} messages have times that cannot be")
        self._loose = kept
        for each in kept:
            self._add_messages(each.channel, 1)
            self._cover(each.time_ns, each.time_ns)

    def _add_messages(self, channel: int, count: int) -> None:
        topic = self.topics[channel]
        self.topics[channel] = dataclasses.replace(topic, messages=topic.messages + count)

    def _cover(self, start_ns: int, end_ns: int) -> None:
        self.start_ns, self.end_ns = min(self.start_ns, start_ns), max(self.end_ns, end_ns)

    def _unpacked(self, offset: int, length: int) -> tuple[Buffer, bool]:
        """Unpack a chunk's records as far as that goes; and whether it is all of them."""
        record = memoryview(self._at(offset, length))
        is_whole = len(record) == length
        try:
            _, _, size, crc = CHUNK_HEAD.unpack_from(record, RECORD.size)
            fields = Fields(record, RECORD.size + CHUNK_HEAD.size)
            compression, packed_size = fields.text(), fields.uint64()
        except (struct.error, ValueError):
            return b"", False
        packed = record[fields.place : fields.place + packed_size]
        if size > _LARGEST_CHUNK or compression not in ("", "lz4", "zstd"):
            return b"", False
        records = unpack(packed, compression, size)
        # Records that end before the chunk does: the fields before them are damaged, or zeros.
        is_whole = is_whole and fields.place + packed_size == length
        is_whole = is_whole and len(records) == size and len(packed) == packed_size
        return records, is_whole and (not crc or zlib.crc32(records) == crc)

    def _add_schema(self, content: bytes) -> None:
        fields = Fields(content)
        number, name = fields.uint16(), fields.text()
        encoding, text = fields.text(), fields.text()
        self._schemas[number] = name, _DEFINITIONS.get(encoding, ""), text

    def _add_channel(self, content: bytes) -> None:
        fields = Fields(content)
        number, schema = fields.uint16(), fields.uint16()
        topic, encoding = fields.text(), fields.text()
        notes = fields.texts()
        if encoding != "cdr" or schema not in self._schemas or number in self.topics:
            if number not in self.topics:
                raise ValueError(f"channel {number} has no CDR messages of a known type")
            return
        kind, definition_format, definition = self._schemas[schema]
        self.topics[number] = StoredTopic(
            name=topic,
            kind=kind,
            messages=0,
            qos=notes.get("offered_qos_profiles", ""),
            definition_format=definition_format,
            definition=definition,
            digest=notes.get("topic_type_hash", ""),
        )
