"""The frames of a demonstration on disk, so that memory is bounded however long the drive is.

A spool is a folder: ``camera/`` has what the camera sends, ``clean/`` the same frames undegraded
(where they are known), as (H, W, 3) uint8 BGR arrays, and ``frames.json`` says when each is due.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

INDEX = "frames.json"
CAMERA, CLEAN = "camera", "clean"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One frame: when it is due after the first, and the stretch of the drive it belongs to."""

    offset_ns: int
    stretch: str
    has_clean: bool


def save_frame(
    folder: Path, index: int, camera: np.ndarray, clean: np.ndarray | None = None
) -> None:
    """Write a frame of a spool, (H, W, 3) uint8 BGR; any order, any process."""
    for name, picture in ((CAMERA, camera), (CLEAN, clean)):
        if picture is not None:
            path = _frame_file(folder, name, index)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, picture)


def finish(folder: Path, entries: Sequence[Entry]) -> Spool:
    """Write the index, in the order of the frames; only then there is a spool."""
    rows = [dataclasses.asdict(entry) for entry in entries]
    (folder / INDEX).write_text(json.dumps(rows), encoding="utf-8")
    return Spool(folder)


class Spool:
    """A finished spool, read frame by frame."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        entries = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        self.entries = [Entry(**entry) for entry in entries]

    def __len__(self) -> int:
        return len(self.entries)

    def camera(self, index: int) -> np.ndarray:
        """What the camera sends, (H, W, 3) uint8 BGR."""
        return _load(self.folder, CAMERA, index)

    def clean(self, index: int) -> np.ndarray:
        """The frame before it was degraded, (H, W, 3) uint8 BGR, where its entry has one."""
        return _load(self.folder, CLEAN, index)

    def stretches(self) -> Iterator[tuple[str, range]]:
        """Each run of frames under one name, in the order played."""
        start = 0
        for index, entry in enumerate(self.entries):
            if index + 1 == len(self) or self.entries[index + 1].stretch != entry.stretch:
                yield entry.stretch, range(start, index + 1)
                start = index + 1


def _frame_file(folder: Path, kind: str, index: int) -> Path:
    return folder / kind / f"{index:06d}.npy"


def _load(folder: Path, kind: str, index: int) -> np.ndarray:
    frame: np.ndarray = np.load(_frame_file(folder, kind, index))
    return frame
