"""Labels and boxes of prepared frames, beside their stacks: ``NAME.labels.npz``.

``labels`` (H, W) uint8 holds CamVid's eleven classes, 11 is unlabelled; ``boxes`` (N, 5) float32
holds class (an index into ``DETECTION_CLASSES``), x, y, width and height in pixels.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unirestore_ros.synthetic.frame import Frame
from unirestore_ros.tasks import DETECTION_CLASSES
from unirestore_ros.train.pairs import Versions, at_dusk, mirroring, to_tensor

SUFFIX = ".labels.npz"
MERGED_SEQUENCE = "0006R0"
"""CamVid's car parks, where queued cars became one box: left out of detection."""


@dataclasses.dataclass(frozen=True)
class Annotation:
    labels: NDArray[np.uint8]
    boxes: NDArray[np.float32]

    def save(self, file: Path) -> None:
        beside = file.with_name(f".{os.getpid()}.{file.name}")
        np.savez_compressed(beside, labels=self.labels, boxes=self.boxes)
        os.replace(beside, file)

    @classmethod
    def load(cls, file: Path) -> Annotation:
        with np.load(file) as stored:
            return cls(stored["labels"], stored["boxes"])


def from_drive(frame: Frame) -> Annotation:
    rows = [[DETECTION_CLASSES.index(b.category), b.x, b.y, b.width, b.height] for b in frame.boxes]
    return Annotation(frame.labels, np.array(rows, np.float32).reshape(-1, 5))


def label_counts(notes: Iterable[Annotation], classes: int) -> Tensor:
    """Labelled pixels (K,) of each class, of a sixteenth of the pixels."""
    labels = np.concatenate([note.labels[::4, ::4].ravel() for note in notes])
    return torch.from_numpy(np.bincount(labels, minlength=classes)[:classes]).float()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Truth:
    """Of crops: labels (B, S, S) int64, boxes: a list of (N, 5) in the crop."""

    labels: Tensor
    boxes: list[Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledBatch(Truth):
    """Crops (B, 3, S, S) in [0, 1] and their truth."""

    degraded: Tensor
    clean: Tensor


class LabelledSampler:
    """Draws crops with their labels from the prepared frames that have an annotation.

    ``clean_share``: of crops that are not degraded.
    """

    def __init__(
        self, cache: Path, seed: int, device: torch.device, clean_share: float = 0.06
    ) -> None:
        files = sorted(cache.glob(f"[!.]*{SUFFIX}"))
        names = [file.name.removesuffix(SUFFIX) for file in files]
        kept = [(f, n) for f, n in zip(files, names, strict=True) if (cache / f"{n}.npy").exists()]
        if not kept:
            raise ValueError(f"no labelled frames in {cache}: run `train prepare` first")
        self.annotations = [Annotation.load(file) for file, _ in kept]
        self.stacks = [np.load(cache / f"{name}.npy", mmap_mode="r") for _, name in kept]
        self.has_boxes = [not name.startswith(MERGED_SEQUENCE) for _, name in kept]
        self.device, self.clean_share = device, clean_share
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """A run that resumes draws other crops than it began with."""
        self.rng = np.random.default_rng(seed)
        self.versions = Versions(self.rng, clean_share=self.clean_share)

    def __call__(self, batch: int, size: int, boxes: bool = False) -> LabelledBatch:
        """``boxes``: draw only frames whose boxes can be trusted, around one of them."""
        crops = [self._crop(size, boxes) for _ in range(batch)]
        degraded, clean, labels, found = zip(*crops, strict=True)
        return LabelledBatch(
            degraded=to_tensor(degraded, self.device),
            clean=to_tensor(clean, self.device),
            labels=torch.from_numpy(np.stack(labels)).to(self.device).long(),
            boxes=[torch.from_numpy(b) for b in found],
        )

    def _crop(self, size: int, boxes: bool) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        while True:
            i = int(self.rng.integers(len(self.stacks)))
            note = self.annotations[i]
            if not boxes or (self.has_boxes[i] and len(note.boxes)):
                break
        stack = self.stacks[i]
        versions, height, width = stack.shape[:3]
        x, y = crop_corner(note, (width, height), size, boxes, self.rng)
        window = (slice(y, y + size), slice(x, x + size))
        k = self.versions.draw(versions)
        flip = mirroring(self.rng, k)
        degraded, clean = at_dusk(
            self.rng, stack[k][window][:, ::flip], stack[0][window][:, ::flip]
        )
        return (
            degraded,
            clean,
            np.ascontiguousarray(note.labels[window][:, ::flip]),
            boxes_in_crop(note.boxes, x, y, size, flip < 0),
        )


def crop_corner(
    note: Annotation,
    image_size: tuple[int, int],
    size: int,
    boxes: bool,
    rng: np.random.Generator,
) -> tuple[int, int]:
    """Left and top of a random crop of an image (width, height); ``boxes``: around one of them."""
    width, height = image_size
    x = int(rng.integers(width - size + 1))
    y = int(rng.integers(height - size + 1))
    if boxes:
        _, bx, by, bw, bh = note.boxes[rng.integers(len(note.boxes))]
        jitter = rng.uniform(-size / 4, size / 4, 2)
        x = int(np.clip(bx + bw / 2 - size / 2 + jitter[0], 0, width - size))
        y = int(np.clip(by + bh / 2 - size / 2 + jitter[1], 0, height - size))
    return x, y


def boxes_in_crop(
    boxes: NDArray[np.float32], x: int, y: int, size: int, flipped: bool
) -> NDArray[np.float32]:
    """The boxes whose centre lies in the crop, clipped to it, in its coordinates."""
    moved = boxes - np.array([0, x, y, 0, 0], np.float32)
    centre = moved[:, 1:3] + moved[:, 3:5] / 2
    moved = moved[((centre >= 0) & (centre < size)).all(axis=1)]
    corner = np.clip(moved[:, 1:3], 0, size)
    end = np.clip(moved[:, 1:3] + moved[:, 3:5], 0, size)
    if flipped:
        corner[:, 0], end[:, 0] = size - end[:, 0], size - corner[:, 0]
    return np.concatenate([moved[:, :1], corner, end - corner], axis=1).astype(np.float32)
