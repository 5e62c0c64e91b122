"""The folder beside OUT in which a bag is made: locked, resumed, and gone when OUT is there."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from unirestore_ros.files import sync_folder, written_beside
from unirestore_ros.recordings.errors import MediaError
from unirestore_ros.recordings.job import differences

_log = logging.getLogger(__name__)


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
        """Go on with what is there for the same job, or start; MediaError where it is another's."""
        if anew:
            self._clear()
        if self._job.is_file():
            other = differences(self._job.read_text(encoding="utf-8"), job)
            if other:
                raise MediaError(
                    f"{self.folder} holds the unfinished work of another command (other:"
                    f" {', '.join(other)}): repeat that one, or say --anew to discard its work"
                )
        else:
            self._clear()
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
    """The working folder, held by this process alone; MediaError where another has it."""
    space = Workspace(out)
    space.folder.mkdir(parents=True, exist_ok=True)
    with (space.folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MediaError(f"{out} is being made by another process") from None
        yield space
