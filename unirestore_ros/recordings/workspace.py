"""Keep the unfinished work of a restoration on disk: locked, resumed, and gone when OUT is there.

The working folder lies beside OUT. What has been restored so far is in it as segments: files of
records for a stretch of frames. A segment is written beside its name, brought to the disk and
renamed, and its name says which frames it holds, so that a kill loses little and the folder is its
own journal.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from unirestore_ros.files import sync_folder, written_beside
from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.job import differences

_HEAD = struct.Struct("<QIQ")  # frame, output, bytes of what follows
_NAME = re.compile(r"frames_(\d{10})_(\d{10})\.segment")
_LARGEST = 256 << 20
SKIPPED = 0xFFFFFFFF
"""Stands for an output where a frame has none: the record says why."""


class Workspace:
    """Paths inside the working folder of OUT."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self.folder = out.parent / f".{out.name}.restoring"
        self.segments = self.folder / "segments"
        # A bag's files are called after its folder.
        self.bag = self.folder / out.name
        self._job = self.folder / "job.json"

    def begin(self, job: str, anew: bool) -> None:
        """Go on with what is there for the same job, or start; RecordingError where another job has
        begun there."""
        if anew:
            self._clear()
        if self._job.is_file():
            try:
                other = differences(self._job.read_text(encoding="utf-8"), job)
            except ValueError:
                other = ["job.json, which is damaged"]
            if other:
                raise RecordingError(
                    f"{self.folder} holds the unfinished work of another command (other:"
                    f" {', '.join(other)}): repeat that one, or add --anew to discard its work"
                )
        else:
            self._clear()
        if self.segments.is_symlink():
            raise RecordingError(f"{self.segments} is a link: remove it")
        self.segments.mkdir(exist_ok=True)
        shutil.rmtree(self.bag, ignore_errors=True)
        with written_beside(self._job) as path:
            path.write_text(job, encoding="utf-8")

    def publish(self) -> None:
        """Put the finished bag in its place, in one step, and remove the rest."""
        sync_folder(self.bag)
        os.rename(self.bag, self._out)
        self.remove()

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _clear(self) -> None:
        shutil.rmtree(self.segments, ignore_errors=True)
        self._job.unlink(missing_ok=True)


@contextlib.contextmanager
def workspace(out: Path) -> Iterator[Workspace]:
    """Lock the working folder for this process; RecordingError where another has it."""
    space = Workspace(out)
    space.folder.mkdir(parents=True, exist_ok=True)
    if space.folder.is_symlink():
        raise RecordingError(f"{space.folder} is a link: remove it")
    # Whoever else can write beside OUT must not choose what is opened: no link is followed, and
    # the lock, which holds nothing, is never emptied.
    path = space.folder / "lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise RecordingError(f"{path} is no lock of this command: remove it") from None
        raise
    with open(handle, "rb+", buffering=0) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecordingError(f"{out} is being made by another process") from None
        yield space


class Record(NamedTuple):
    """One message of a frame: which of the job's outputs it is, and its bytes."""

    frame: int
    output: int
    data: bytes


class SegmentWriter:
    """Appends frames after those that are there; a segment is closed every so often."""

    def __init__(self, folder: Path, first: int, every_s: float) -> None:
        self._folder = folder
        self._first = self._next = first
        self._every_s = every_s
        self._stream: BinaryIO | None = None
        self._whole = 0  # bytes of the stream that are whole frames
        self._begun = 0.0

    def add(self, frame: int, records: list[Record]) -> None:
        """Add all records of the next frame, of which there may be none."""
        if frame != self._next:
            raise ValueError(f"frame {frame} comes after {self._next - 1}")
        if self._stream is None:
            self._begun, self._whole = time.monotonic(), 0
            self._stream = self._new_part()
        for record in records:
            self._stream.write(_HEAD.pack(record.frame, record.output, len(record.data)))
            self._stream.write(record.data)
        self._next, self._whole = frame + 1, self._stream.tell()
        is_old = time.monotonic() - self._begun >= self._every_s
        if is_old or self._whole >= _LARGEST:
            self.close()

    def close(self) -> None:
        """Give the segment its name, once its bytes are on the disk."""
        if self._stream is None:
            return
        self._stream.truncate(self._whole)  # flushes first
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._stream = None
        if self._first == self._next:
            return
        name = f"frames_{self._first:010d}_{self._next:010d}.segment"
        self._part().rename(self._folder / name)
        self._first = self._next

    def __enter__(self) -> SegmentWriter:
        return self

    def __exit__(self, *error: object) -> None:
        """Keep the frames that are whole, whatever ends the work."""
        self.close()

    def _new_part(self) -> BinaryIO:
        """Begin the unfinished segment anew, as a file of this process's own."""
        self._part().unlink(missing_ok=True)
        return self._part().open("xb")

    def _part(self) -> Path:
        return self._folder / "unfinished.part"


def finished_frames(folder: Path) -> int:
    """Count the frames from the first on that the segments hold."""
    return _segments(folder)[-1][1] if _segments(folder) else 0


def read_records(folder: Path) -> Iterator[Record]:
    """Read all records in the order in which they were added."""
    for _, _, path in _segments(folder):
        with path.open("rb") as stream:
            while head := stream.read(_HEAD.size):
                frame, output, length = _HEAD.unpack(head)
                yield Record(frame, output, stream.read(length))


def _segments(folder: Path) -> list[tuple[int, int, Path]]:
    """Find first frame, frame after the last, and file of each; RecordingError for a gap."""
    found = sorted(
        (int(match[1]), int(match[2]), path)
        for path in folder.iterdir()
        if (match := _NAME.fullmatch(path.name))
    )
    expected = 0
    for first, end, path in found:
        if first != expected:
            raise RecordingError(f"{path} begins at frame {first}, {expected} is due: use --anew")
        expected = end
    return found
