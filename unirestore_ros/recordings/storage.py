"""Open rosbag2 recordings, whatever state they are in: messages stay the bytes that were recorded.

A bag is a folder with or without `metadata.yaml`, or a single file. What can be read of it is read;
what cannot is said once, in one line, with the command that may recover more. Nothing is
deserialised here, so that a bag with message types that are not installed on this machine is read
like any other.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
    Qos,
)

from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.bag_metadata import FILE_NAME, Metadata, read_metadata, read_qos
from unirestore_ros.recordings.mcap_file import McapFile
from unirestore_ros.recordings.mcap_records import unpack_file, unpack_message
from unirestore_ros.recordings.sqlite_file import SqliteFile
from unirestore_ros.recordings.storage_file import (
    BAG_SUFFIXES,
    LATEST_NS,
    FileDamaged,
    StoredMessage,
    StoredTopic,
    bag_files,
    recovery_of,
)

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
STORAGES = ("sqlite3", "mcap")
# How zstd begins; CDR begins with a zero.
_ZSTD = b"\x28\xb5\x2f\xfd"
# Recorders round: a smaller difference of metadata and messages is none.
_SAME_TIME_NS = 1_000_000
_FORMATS = {
    "msg": MessageDefinitionFormat.MSG,
    "idl": MessageDefinitionFormat.IDL,
    "": MessageDefinitionFormat.NONE,
}

_log = logging.getLogger(__name__)


def bag_folder(path: Path) -> Path:
    """Find the bag that a path means: a folder, or a file that is a bag by itself; RecordingError
    where there is none."""
    if not path.exists():
        raise RecordingError(f"there is no bag {path}")
    if path.is_dir():
        if not (path / FILE_NAME).is_file() and not bag_files(path):
            raise RecordingError(
                f"{path} is no bag: it has neither {FILE_NAME} nor files {', '.join(BAG_SUFFIXES)}"
            )
        return path
    if not path.is_file():
        raise RecordingError(f"{path} is neither a file nor a folder")
    listed = read_metadata(path.parent).files
    return path.parent if path.name in listed else path


@contextlib.contextmanager
def open_reader(path: Path, said: set[str] | None = None) -> Iterator[Reader]:
    """Open a bag to be read in the order of its times; RecordingError where nothing of it can be
    read. What is missing or wrong is a warning.

    ``said``: what was warned of when the bag was opened before, and is not said again.
    """
    bag = bag_folder(path)
    with contextlib.ExitStack() as stack:
        reader = Reader(bag, stack, set() if said is None else said)
        stack.callback(reader.say_damage)
        yield reader


class Reader:
    """A bag, open. A topic that several files or channels have is one connection."""

    def __init__(self, path: Path, stack: contextlib.ExitStack, said: set[str]) -> None:
        """Open all files of the bag; ``stack`` closes them. ``said`` is added to."""
        self.path = path
        self.metadata = read_metadata(path) if path.is_dir() else Metadata()
        self._said = said
        self._lost: set[str] = set()
        self._files: list[McapFile | SqliteFile] = []
        problems = [self.metadata.problem] if self.metadata.problem else []
        for name in self._names(problems):
            try:
                self._files.append(self._opened(name, stack, problems))
            except FileDamaged as error:
                problems.append(f"{name.name} {error} ({recovery_of(name)})")
            except OSError as error:
                problems.append(f"{name.name} cannot be opened: {error.strerror}")
        if not self._files:
            raise RecordingError(f"the bag {path} cannot be read: {'; '.join(problems)}")
        self._files.sort(key=lambda file: file.start_ns)
        self._numbers: dict[tuple[str, str], int] = {}
        self.connections = self._joined()
        if not self.message_count and (damage := self._damage()):
            # Without a message, what is left is no recording.
            problems += damage
            raise RecordingError(f"no message of the bag {path} can be read: {'; '.join(problems)}")
        self._say([*problems, *self._damage(), *self._differences()])

    @property
    def storage(self) -> str:
        """``mcap`` or ``sqlite3``."""
        return self._files[0].storage

    @property
    def message_count(self) -> int:
        return sum(file.message_count for file in self._files)

    @property
    def start_time(self) -> int:
        """Return the time of the first message, in nanoseconds."""
        return min(file.start_ns for file in self._files)

    @property
    def end_time(self) -> int:
        """Return the nanosecond after the last message; 0 where there is none."""
        last = max(file.end_ns for file in self._files)
        return last + 1 if self.message_count else 0

    @property
    def duration(self) -> int:
        return max(0, self.end_time - self.start_time)

    def messages(
        self,
        connections: Collection[Connection] = (),
        start: int | None = None,
        stop: int | None = None,
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield connection, time and bytes of messages in the order of their times: of all
        connections where none is given, from ``start`` to before ``stop``."""
        by_number = {each.id: each for each in connections or self.connections}
        end = LATEST_NS if stop is None else stop
        streams = [self._of_file(file, by_number, start or 0, end) for file in self._files]
        overlap = any(one.end_ns > two.start_ns for one, two in itertools.pairwise(self._files))
        if overlap:
            yield from heapq.merge(*streams, key=lambda each: each[1])
        else:
            # One after another, so that the first message does not cost opening all.
            for stream in streams:
                yield from stream

    def say_damage(self) -> None:
        """Warn of what was found missing since this was called last."""
        self._say(self._damage())

    def _of_file(
        self,
        file: McapFile | SqliteFile,
        by_number: dict[int, Connection],
        start: int,
        stop: int,
    ) -> Iterator[tuple[Connection, int, bytes]]:
        of_topic = {
            topic: by_number[number]
            for topic, each in file.topics.items()
            if (number := self._numbers[each.name, each.kind]) in by_number
        }
        if not of_topic:
            return
        for found in file.messages(of_topic, start, stop):
            data: bytes | None = found.data
            if found.data.startswith(_ZSTD):
                data = unpack_message(found.data)
            if data is None:
                self._note_lost(file, found)
            else:
                yield of_topic[found.topic], found.time_ns, data

    def _note_lost(self, file: McapFile | SqliteFile, found: StoredMessage) -> None:
        self._lost.add(f"a message of {file.topics[found.topic].name} at {found.time_ns} ns")

    def _names(self, problems: list[str]) -> list[Path]:
        """List the files of the bag."""
        if not self.path.is_dir():
            return [self.path]
        present = bag_files(self.path)
        listed = [self.path / name for name in self.metadata.files]
        if not listed:
            return present
        absent = [path.name for path in listed if not path.is_file()]
        if absent:
            problems.append(f"missing: {', '.join(absent)}")
        if more := [path.name for path in present if path not in listed]:
            if len(absent) == len(listed):
                problems.append(f"read instead: {', '.join(more)}")
                return present
            problems.append(f"not read, since {FILE_NAME} does not name it: {', '.join(more)}")
        return [path for path in dict.fromkeys(listed) if path.is_file()]

    def _opened(
        self, path: Path, stack: contextlib.ExitStack, problems: list[str]
    ) -> McapFile | SqliteFile:
        if path.suffix == ".zstd":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="unirestore_bag_"))
            unpacked = Path(folder) / path.stem
            if not unpack_file(path, unpacked):
                problems.append(f"{path.name} is damaged: unpacked up to there")
            path = unpacked
        file = SqliteFile(path) if path.suffix == ".db3" else McapFile(path)
        stack.callback(file.close)
        return file

    def _joined(self) -> list[Connection]:
        """Make one connection of each topic and type, in the order of the files."""
        topics: dict[tuple[str, str], list[StoredTopic]] = {}
        for file in self._files:
            for topic in file.topics.values():
                topics.setdefault((topic.name, topic.kind), []).append(topic)
        connections = []
        for number, (key, parts) in enumerate(topics.items(), 1):
            self._numbers[key] = number
            defined = next((part for part in parts if part.definition), parts[0])
            connections.append(
                Connection(
                    id=number,
                    topic=key[0],
                    msgtype=key[1],
                    msgdef=MessageDefinition(
                        _FORMATS[defined.definition_format], defined.definition
                    ),
                    digest=self.metadata.digests.get(key)
                    or next((part.digest for part in parts if part.digest), ""),
                    msgcount=sum(part.messages for part in parts),
                    ext=ConnectionExtRosbag2("cdr", self._qos(key, parts)),
                    owner=self,
                )
            )
        return connections

    def _qos(self, key: tuple[str, str], parts: list[StoredTopic]) -> list[Qos]:
        """Return the profiles of the files; those of the metadata where files have none."""
        found = dict.fromkeys(qos for part in parts for qos in read_qos(part.qos))
        return list(found) or self.metadata.qos.get(key, [])

    def _damage(self) -> list[str]:
        """Say of each damaged file what is wrong with it."""
        said = [
            f"{file.path.name}: {', '.join(file.damage)} ({recovery_of(file.path)})"
            for file in self._files
            if file.damage
        ]
        if self._lost:
            count = len(self._lost)
            said.append(f"{count} compressed messages are damaged, the first {min(self._lost)}")
        return said

    def _differences(self) -> list[str]:
        """Say where metadata and messages differ: the messages count."""
        said = []
        if self.metadata.span_ns is not None and self.message_count:
            start, last = self.metadata.span_ns
            late, early = start - self.start_time, self.end_time - 1 - last
            if max(abs(late), abs(early)) > _SAME_TIME_NS:
                said.append(
                    f"{FILE_NAME} and storage differ: it tells of {(last - start) * 1e-9:.6g} s"
                    f" from {start} ns, the messages are of {self.duration * 1e-9:.6g} s from"
                    f" {self.start_time} ns"
                )
        counts = {(each.topic, each.msgtype): each.msgcount for each in self.connections}
        other = [
            f"{count} of {key[0]} where {counts.get(key, 0)} can be read"
            for key, count in self.metadata.counts.items()
            if counts.get(key, 0) != count
        ]
        if other:
            said.append(f"{FILE_NAME} tells of {', '.join(other)}")
        return said

    def _say(self, problems: list[str]) -> None:
        """Warn in one line of what has not been said of this bag yet."""
        if new := [each for each in problems if each not in self._said]:
            self._said.update(new)
            _log.warning("%s: %s", self.path, "; ".join(new))


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


def files_of(bag: Path) -> dict[str, int]:
    """List a bag's files but its metadata, with their sizes in bytes."""
    paths = sorted(bag.iterdir()) if bag.is_dir() else [bag]
    return {
        path.name: path.stat().st_size
        for path in paths
        if path.is_file() and path.name != FILE_NAME
    }


def qos_of(connection: Connection) -> list[Qos]:
    assert isinstance(connection.ext, ConnectionExtRosbag2)  # of a rosbag2 there is no other
    return connection.ext.offered_qos_profiles
