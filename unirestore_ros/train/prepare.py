"""Preparation of training frames: each is degraded in every way, and kept on disk.

Degrading a frame costs as much as a training step on a small crop. Stacks and annotations are laid
out as ``data.py`` says; severities are drawn at random, seeded by the frame's name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import multiprocessing
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from unirestore_ros.synthetic import corruptions, driving
from unirestore_ros.synthetic.drive import Drive
from unirestore_ros.synthetic.programme import TRAINING_SEEDS
from unirestore_ros.train.data import DRIVE_PREFIX, SUFFIX, Annotation, Image, draw_severity

# The driving degradation that training never sees, to test what generalises.
HELD_OUT = "lens_drops"
DRIVING = tuple(name for name in driving.DEGRADATIONS if name != HELD_OUT)
FRAMES_A_DRIVE = 6
SECONDS_BETWEEN_FRAMES = 3.7
Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class CleanFrame:
    """A clean RGB frame (H, W, 3) with depth in metres (H, W) where it is known."""

    name: str
    image: Image
    depth: NDArray[np.float32] | None = None


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A rule for frames that are not trained on: their names begin with ``sequence`` and end with a
    number that is ``first`` or more."""

    sequence: str
    first: int = 0

    @classmethod
    def parse(cls, text: str) -> LeftOut:
        """Read ``SEQUENCE`` or ``SEQUENCE:NUMBER``; ValueError for anything else."""
        found = re.fullmatch(r"([^:]+)(?::(\d+))?", text)
        if found is None:
            raise ValueError(f"{text!r} is neither SEQUENCE nor SEQUENCE:NUMBER")
        return cls(found[1], int(found[2] or 0))

    def holds(self, name: str) -> bool:
        number = re.search(r"\d+$", name)
        return name.startswith(self.sequence) and int(number[0] if number else 0) >= self.first


def photographs(folders: Iterable[Path], left_out: Sequence[LeftOut] = ()) -> list[Path]:
    """List every JPEG and PNG below the folders, but for those that are left out."""
    files = [f for folder in folders for f in sorted(folder.rglob("*"))]
    return [
        f
        for f in files
        if f.suffix.lower() in (".jpg", ".jpeg", ".png")
        and not any(rule.holds(f.stem) for rule in left_out)
    ]


def read_photograph(file: Path) -> CleanFrame:
    image = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{file} is not an image that OpenCV reads")
    return CleanFrame(file.stem, np.ascontiguousarray(image[..., ::-1]).astype(np.uint8))


def spread(items: Sequence[Item], limit: int | None) -> list[Item]:
    """Choose at most ``limit`` items, evenly spread."""
    count = min(limit or len(items), len(items))
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, count).round()]


def synthetic_frames(count: int) -> Iterable[tuple[str, int, float]]:
    """Yield name, seed and time in seconds of frames of the synthetic drive's training seeds."""
    for i in range(count):
        seed = TRAINING_SEEDS[i // FRAMES_A_DRIVE]
        number = i % FRAMES_A_DRIVE
        yield f"{DRIVE_PREFIX}{seed}_{number}", seed, number * SECONDS_BETWEEN_FRAMES


class Task(NamedTuple):
    """A frame to prepare: its name, how to make it, and its annotation where it is known before."""

    name: str
    make: Callable[[], tuple[CleanFrame, Annotation | None]]
    note: Annotation | None = None


def photograph_tasks(photos: Iterable[Path], annotations: Mapping[str, Annotation]) -> list[Task]:
    """List the preparation of photographs; ``annotations``: those that there are, by name."""
    return [
        Task(file.stem, partial(_photograph, file), annotations.get(file.stem)) for file in photos
    ]


def _photograph(file: Path) -> tuple[CleanFrame, None]:
    return read_photograph(file), None


def drive_tasks(count: int) -> list[Task]:
    """List the preparation of so many frames of the synthetic drive."""
    return [
        Task(name, partial(_drive_frame, name, seed, time))
        for name, seed, time in synthetic_frames(count)
    ]


def _drive_frame(name: str, seed: int, time: float) -> tuple[CleanFrame, Annotation]:
    frame = Drive(seed).frame(time)
    return CleanFrame(name, frame.image, frame.depth), Annotation.of_drive(frame)


def prepare(cache: Path, tasks: Sequence[Task], draws: int = 1, jobs: int = 1) -> None:
    """Fill the cache with ``draws`` stacks a frame, in ``jobs`` processes; stacks that are there
    already stay as they are."""
    cache.mkdir(parents=True, exist_ok=True)
    prepare_one = partial(_prepare_frame, cache, draws)
    with contextlib.ExitStack() as ending:
        prepared: Iterable[None] = map(prepare_one, tasks)
        if jobs > 1:
            # Spawned: in a forked process OpenCV would wait for threads that only its parent has.
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(jobs, context, cv2.setNumThreads, (1,))
            prepared = ending.enter_context(pool).map(prepare_one, tasks)
        for _ in tqdm(prepared, desc="prepare", total=len(tasks), unit="frame"):
            pass


def _prepare_frame(cache: Path, draws: int, task: Task) -> None:
    names = [task.name, *(f"{task.name}.{i}" for i in range(2, draws + 1))]
    missing = [name for name in names if not (cache / f"{name}.npy").exists()]
    note = task.note
    if missing:
        frame, made = task.make()
        note = note or made
        for name in missing:
            _write_stack(cache, dataclasses.replace(frame, name=name))
    if note is not None:
        for name in names:
            note.save(cache / f"{name}{SUFFIX}")


def _write_stack(cache: Path, frame: CleanFrame) -> None:
    beside = cache / f".{frame.name}.{os.getpid()}.npy"
    np.save(beside, np.stack([frame.image, *degraded_versions(frame)]))
    os.replace(beside, cache / f"{frame.name}.npy")


def degraded_versions(frame: CleanFrame) -> list[Image]:
    """Apply each of the 15 common corruptions once, and each driving one at two severities.

    The depth of a photograph, which has none, is ``driving.proxy_depth``.
    """
    seed = int.from_bytes(hashlib.sha256(frame.name.encode()).digest()[:4], "big")
    rng = np.random.default_rng(seed)
    versions = []
    for name in corruptions.COMMON:
        severity = draw_severity(rng)
        if name == "glass_blur":
            versions.append(corruptions.fast_glass_blur(frame.image, severity, rng))
        else:
            versions.append(corruptions.corrupt(frame.image, name, severity, frame.name))
    for name in 2 * DRIVING:
        severity = draw_severity(rng)
        versions.append(driving.degrade(frame.image, name, severity, rng, frame.depth))
    return versions
