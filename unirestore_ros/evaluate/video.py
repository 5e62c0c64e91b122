"""How much a restored video flickers: a still scene, and a drive with its motion compensated."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from unirestore_ros.evaluate.methods import OURS, PERCEPTION, Image, prompted
from unirestore_ros.evaluate.metrics import psnr
from unirestore_ros.model import UniRestore
from unirestore_ros.synthetic.driving import degrade, frame_rng

UNTOUCHED = "untouched"
LARGEST_WIDTH = 480
STATIC_FRAMES = 10
SEVERITY = 3
MOVING_INPUTS = ("clean", "noise", "rain")
_SEED = "evaluate video"
Json = dict[str, Any]
AGREEMENT_PX = 1.0
"""Where forward and backward flow differ by more, something is hidden, or the flow is wrong."""
Map = NDArray[np.float32]
# A frame and its restored image, RGB (H, W, 3) uint8, by method.
Versions = Mapping[str | None, Image]
Restore = Callable[[Image], Versions]


def read_video(file: Path, frames: int) -> list[Image]:
    """Read the first ``frames`` RGB frames, at most LARGEST_WIDTH wide; ValueError for fewer than
    two."""
    capture = cv2.VideoCapture(str(file))
    read: list[Image] = []
    while len(read) < frames:
        there, frame = capture.read()
        if not there:
            break
        scale = min(1.0, LARGEST_WIDTH / frame.shape[1])
        small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        read.append(np.ascontiguousarray(small[..., ::-1]))
    capture.release()
    if len(read) < 2:
        raise ValueError(f"{file} is not a video of two frames or more that OpenCV reads")
    return read


def measure(network: UniRestore, clean: Sequence[Image]) -> Json:
    """Measure ``static``, the deviation over time, and ``clip``, warped error and PSNR, of every
    version."""
    ours = prompted(network, {PERCEPTION: OURS})
    total = 2 * STATIC_FRAMES + len(MOVING_INPUTS) * len(clean)
    with tqdm(total=total, unit="frame") as bar:

        def restore(frame: Image) -> Versions:
            made = {UNTOUCHED: frame, **ours(frame)}
            bar.update()
            return made

        static = [row for name in ("clean", "noise") for row in _static(restore, clean[0], name)]
        moves = [motion(before, now) for before, now in itertools.pairwise(clean)]
        clip = [row for name in MOVING_INPUTS for row in _clip(restore, clean, name, moves)]
    return {"static": static, "clip": clip}


def _static(restore: Restore, scene: Image, name: str) -> Iterator[Json]:
    """Restore one clean frame again and again, as it is or with new sensor noise every time."""
    outputs = [restore(_input(scene, name, number)) for number in range(STATIC_FRAMES)]
    deviations = {
        version: deviation([output[version] for output in outputs]) for version in outputs[0]
    }
    for version, value in deviations.items():
        yield {"input": name, "method": version, "std": round(value, 4),
               "input_std": round(deviations[UNTOUCHED], 4)}  # fmt: skip


def deviation(frames: Sequence[Image]) -> float:
    """Compute each value's deviation over time, in grey levels; mean over the image."""
    return float(np.stack(frames).astype(np.float32).std(axis=0).mean())


def _input(frame: Image, name: str, number: int) -> Image:
    if name == "clean":
        return frame
    return degrade(frame, name, SEVERITY, frame_rng(_SEED, name, number))


@dataclasses.dataclass
class _Track:
    before: Image | None = None
    errors: list[float] = dataclasses.field(default_factory=list)
    fidelity: list[float] = dataclasses.field(default_factory=list)


def _clip(
    restore: Restore, clean: Sequence[Image], name: str, moves: Sequence[Motion]
) -> Iterator[Json]:
    tracks: dict[str | None, _Track] = {}
    for number, frame in enumerate(clean):
        for version, image in restore(_input(frame, name, number)).items():
            track = tracks.setdefault(version, _Track())
            if track.before is not None:
                track.errors.append(moves[number - 1].error(track.before, image))
            track.before = image
            track.fidelity.append(psnr(image, frame))
    for version, track in tracks.items():
        error, fidelity = float(np.mean(track.errors)), float(np.mean(track.fidelity))
        yield {"input": name, "method": version, "warp_error": round(error, 4),
               "psnr": round(fidelity, 3)}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Motion:
    """Places (H, W) in the frame before, and where they can be trusted."""

    x: Map
    y: Map
    known: NDArray[np.bool_]

    def error(self, before: Image, now: Image) -> float:
        """Compute the mean absolute difference, in grey levels, of ``now`` and ``before`` moved to
        it."""
        moved = cv2.remap(before, self.x, self.y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        difference = np.abs(moved.astype(np.float32) - now).mean(axis=2)
        return float(difference[self.known].mean())


def motion(before: Image, now: Image) -> Motion:
    """Estimate motion between two clean RGB frames (H, W, 3) by dense inverse search (Kroeger et
    al., ECCV 2016)."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (before, now)]
    height, width = grey[0].shape
    back, forth = np.zeros((2, height, width, 2), np.float32)
    back = dis.calc(grey[1], grey[0], back)
    forth = dis.calc(grey[0], grey[1], forth)
    x: Map = np.arange(width, dtype=np.float32)[None, :] + back[..., 0].astype(np.float32)
    y: Map = np.arange(height, dtype=np.float32)[:, None] + back[..., 1].astype(np.float32)
    returned = cv2.remap(forth, x, y, cv2.INTER_LINEAR)
    agrees = np.linalg.norm(back + returned, axis=2) <= AGREEMENT_PX
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return Motion(x, y, agrees & inside)
