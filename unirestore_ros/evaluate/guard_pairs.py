"""Frames and their restorations, with and without planted errors, as the guard sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unirestore_ros.engine import Engine
from unirestore_ros.evaluate.conditions import DRIVING, degraded
from unirestore_ros.evaluate.guard_errors import (
    Box,
    Cutout,
    Image,
    Mask,
    Planted,
    labelled_objects,
    plant_errors,
    read_rgb,
)
from unirestore_ros.files import written_beside
from unirestore_ros.node.guard import cell_features
from unirestore_ros.synthetic.corruptions import COMMON, VALIDATION
from unirestore_ros.synthetic.drive import Drive
from unirestore_ros.synthetic.driving import DEGRADATIONS, degrade, frame_rng

GOOD = "good"
CONDITIONS: tuple[tuple[str, int], ...] = (
    ("clean", 0),
    *((name, 3) for name in (*COMMON, *VALIDATION, *DRIVING) if name != "glass_blur"),
    *((name, 5) for name in ("gaussian_noise", "impulse_noise", "defocus_blur", "motion_blur")),
    *((name, 5) for name in ("snow", "frost", "fog", "brightness", "contrast")),
    *((name, 5) for name in ("driving/low_light", "driving/fog")),
)
"""Corruption and severity; glass_blur takes seconds an image and is left out."""
_DRIVE_SEVERITY = 3
DELAY_FRAMES = 10
"""By how much a delayed restoration lags, in frames of a video."""
_CELLS = (45, 60)
_MARGIN = 4
"""Pixels around an error within which its cells lie."""


@dataclass(frozen=True)
class Scene:
    """One photograph or video in several conditions. ``frames`` and ``restored``: (n,360,480,3)
    uint8 RGB."""

    frames: Image
    restored: Image
    conditions: tuple[str, ...]
    objects: tuple[tuple[Box, Mask], ...] = ()


@dataclass(frozen=True)
class Samples:
    """What the guard measures of n pairs."""

    cells: NDArray[np.float16]
    """(n,45,60,FEATURES)"""
    kinds: NDArray[np.str_]
    """(n,): GOOD, or which error was planted."""
    conditions: NDArray[np.str_]
    inside: NDArray[np.bool_]
    """(n,45,60): cells in which the error lies; all of them for one that is everywhere."""


def photographs(engine: Engine, files: Sequence[Path], work: Path) -> Iterator[Scene]:
    """Each photograph under every condition; restorations are kept in the folder ``work``."""
    for file in files:
        kept = work / f"{file.parent.parent.name}_{file.stem}.npz"
        if not kept.exists():
            _keep(kept, *_restored(engine, file))
        yield _read(kept, tuple(labelled_objects(file)))


def drive_frames(
    engine: Engine, seeds: Sequence[int], times: Sequence[float], work: Path
) -> Iterator[Scene]:
    """Frames of synthetic drives, at ``times`` in seconds, clean and under each of the road's
    degradations, with their true depth."""
    for seed in seeds:
        drive = Drive(seed)
        for time in times:
            kept = work / f"drive_{seed}_{time:g}.npz"
            if not kept.exists():
                frames = _driven(drive, time)
                restored = [_restore(engine, frame) for frame in frames.values()]
                _keep(kept, [*frames.values()], restored, [f"drive/{name}" for name in frames])
            yield _read(kept)


def _driven(drive: Drive, time: float) -> dict[str, Image]:
    """Render one frame in every condition, by its name."""
    made = drive.frame(time)
    frames = {"clean": made.image}
    for name in DEGRADATIONS:
        rng = frame_rng(str(drive.seed), name, round(time * 1000))
        frames[name] = degrade(made.image, name, _DRIVE_SEVERITY, rng, made.depth)
    return frames


def single_frames(engine: Engine, files: Sequence[Path], work: Path) -> Iterator[Scene]:
    """Photographs of real bad weather, as they are."""
    for file in files:
        kept = work / f"single_{file.stem}.npz"
        if not kept.exists():
            frame = read_rgb(file)
            _keep(kept, [frame], [_restore(engine, frame)], [file.stem])
        yield _read(kept)


def videos(
    engine: Engine, file: Path, conditions: Sequence[tuple[str, int]], work: Path
) -> Iterator[Scene]:
    """A video under each of some conditions, every frame of it."""
    for name, severity in conditions:
        kept = work / f"video_{file.stem}_{name.replace('/', '_')}{severity}.npz"
        if not kept.exists():
            frames = [_condition(frame, name, severity, file.name) for frame in _read_video(file)]
            restored = [_restore(engine, frame) for frame in frames]
            _keep(kept, frames, restored, [f"{name}{severity}"] * len(frames))
        yield _read(kept)


def _read_video(file: Path) -> Iterator[Image]:
    capture = cv2.VideoCapture(str(file))
    while True:
        read, frame = capture.read()
        if not read:
            return
        small = cv2.resize(frame, (480, 360), interpolation=cv2.INTER_AREA)
        yield cv2.cvtColor(small, cv2.COLOR_BGR2RGB).astype(np.uint8)


def _restored(engine: Engine, file: Path) -> tuple[list[Image], list[Image], list[str]]:
    clean = read_rgb(file)
    frames = [_condition(clean, name, severity, file.name) for name, severity in CONDITIONS]
    names = [f"{name}{severity}" for name, severity in CONDITIONS]
    return frames, [_restore(engine, frame) for frame in frames], names


def _condition(clean: Image, name: str, severity: int, key: str) -> Image:
    return clean if name == "clean" else degraded(clean, name, severity, key)


def _restore(engine: Engine, frame: Image) -> Image:
    engine.run_trunk(np.ascontiguousarray(frame))
    return engine.decode("perception").copy()


def _keep(
    file: Path, frames: Sequence[Image], restored: Sequence[Image], names: Sequence[str]
) -> None:
    with written_beside(file) as beside, beside.open("wb") as stream:
        np.savez(
            stream, frames=np.stack(frames), restored=np.stack(restored), names=np.array(names)
        )


def _read(file: Path, objects: tuple[tuple[Box, Mask], ...] = ()) -> Scene:
    with np.load(file) as kept:
        names = tuple(str(name) for name in kept["names"])
        return Scene(kept["frames"], kept["restored"], names, objects)


def planted_samples(scenes: Sequence[Scene], people: Sequence[Cutout], seed: int) -> Samples:
    """Every pair of the scenes, as it is and with one error of each kind."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, str, Box | None, NDArray[np.float16]]] = []
    for i, scene in enumerate(scenes):
        for j, condition in enumerate(scene.conditions):
            frame, restored = scene.frames[j], scene.restored[j]
            others = _others(scenes, i, condition)
            planted = [Planted(GOOD, restored, None)]
            planted += plant_errors(restored, others, people, scene.objects, rng)
            for error in planted:
                cells = cell_features(frame, error.image).astype(np.float16)
                rows.append((error.kind, condition, error.box, cells))
    kinds, conditions, boxes, cells_of = zip(*rows, strict=True)
    inside = np.stack([_cells_inside(box) for box in boxes])
    return Samples(np.stack(cells_of), np.array(kinds), np.array(conditions), inside)


def video_samples(scenes: Sequence[Scene]) -> Samples:
    """Every frame of the videos, as it is and with the restoration of an earlier one."""
    rows = []
    for scene in scenes:
        for j, frame in enumerate(scene.frames):
            earlier = {GOOD: j, "delayed": j - DELAY_FRAMES, "frozen": 0}
            for kind, k in earlier.items():
                if k >= 0 and (kind == GOOD or j >= DELAY_FRAMES):
                    cells = cell_features(frame, scene.restored[k]).astype(np.float16)
                    rows.append((kind, scene.conditions[j], cells))
    kinds, conditions, cells_of = zip(*rows, strict=True)
    everywhere = np.ones((len(rows), *_CELLS), np.bool_)
    return Samples(np.stack(cells_of), np.array(kinds), np.array(conditions), everywhere)


def _others(scenes: Sequence[Scene], i: int, condition: str) -> list[Image]:
    """Restorations of other scenes in the same condition, or in any where there is none."""
    rest = [scene for k, scene in enumerate(scenes) if k != i]
    alike = [s.restored[s.conditions.index(condition)] for s in rest if condition in s.conditions]
    return alike or [scene.restored[0] for scene in rest]


def _cells_inside(box: Box | None) -> NDArray[np.bool_]:
    if box is None:
        return np.ones(_CELLS, np.bool_)
    x, y, w, h = box
    rows, columns = (np.arange(count) * 8 + 4 for count in _CELLS)
    across = (columns >= x - _MARGIN) & (columns <= x + w + _MARGIN)
    down = (rows >= y - _MARGIN) & (rows <= y + h + _MARGIN)
    return np.outer(down, across).astype(np.bool_)
