"""Adapted features of prepared frames, made once and kept on disk: what heads are trained on.

Whole frames, because the adapter's gates are pooled over the frame: a crop has other features than
the same place in its frame. Each frame is taken in one of its degraded versions, every third also
clean.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from unirestore_ros.model import UniRestore
from unirestore_ros.model.unirestore import pad_to_multiple
from unirestore_ros.train.labelled import (
    MERGED_SEQUENCE,
    SUFFIX,
    Annotation,
    Truth,
    boxes_in_crop,
    crop_corner,
    label_counts,
)
from unirestore_ros.train.pairs import DRIVE_PREFIX, to_tensor

STRIDE = 4
TASKS = ("seg", "det")
"""In the order in which they lie in a file of features."""
CLEAN_EVERY = 3
DRIVE_SHARE = 0.2

Features = NDArray[np.float16]


def cache_features(frames: Path, cache: Path, network: UniRestore, device: torch.device) -> None:
    """One ``NAME.VERSION.npy`` (tasks, C, h, w) float16 for each labelled frame and version;
    those already there are left as they are."""
    cache.mkdir(parents=True, exist_ok=True)
    names = [file.name.removesuffix(SUFFIX) for file in sorted(frames.glob(f"[!.]*{SUFFIX}"))]
    wanted = [(n, v) for i, n in enumerate(names) for v in _versions(frames, n, i)]
    if not wanted:
        raise ValueError(f"no labelled frames in {frames}: run `train prepare` first")
    for name, version in tqdm(wanted, desc="features", unit="frame"):
        file = cache / f"{name}.{version}.npy"
        if not file.exists():
            image = np.load(frames / f"{name}.npy", mmap_mode="r")[version]
            _write(file, features_of(network, to_tensor([image], device)))


def _versions(frames: Path, name: str, index: int) -> Iterator[int]:
    """A degraded one drawn by the frame's name, and 0, the clean one, for every third frame."""
    count = np.load(frames / f"{name}.npy", mmap_mode="r").shape[0]
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[4:8], "big")
    yield int(np.random.default_rng(seed).integers(1, count))
    if index % CLEAN_EVERY == 0:
        yield 0


@torch.inference_mode()
def features_of(network: UniRestore, images: Tensor) -> Features:
    """What the bundle's adapter gives for one image (1, 3, H, W): (tasks, C, H/4, W/4)."""
    z0, skips = network.encode(pad_to_multiple(images, network.config.multiple))
    zt = network.denoise(z0)
    height, width = (side // STRIDE for side in images.shape[-2:])
    maps = [network.adapt(zt, skips, task, STRIDE)[0, :, :height, :width] for task in TASKS]
    return torch.stack(maps).half().cpu().numpy()


def _write(file: Path, features: Features) -> None:
    beside = file.with_name(f".{os.getpid()}.{file.name}")
    np.save(beside, features)
    os.replace(beside, file)


def _chances(drawn: list[bool]) -> NDArray[np.float64] | None:
    """Of each map to be sampled: those of the synthetic drive share ``DRIVE_SHARE``."""
    share = np.mean(drawn)
    if share in (0, 1):
        return None
    each = np.where(drawn, DRIVE_SHARE / share, (1 - DRIVE_SHARE) / (1 - share))
    return np.asarray(each / each.sum())


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureBatch(Truth):
    """Crops of features (B, C, S, S) and the truth of the pixels that they cover."""

    features: Tensor


class FeatureSampler:
    """Draws crops of one task's features, with their labels."""

    def __init__(
        self, frames: Path, cache: Path, task: str, seed: int, device: torch.device
    ) -> None:
        self.task = TASKS.index(task)
        files = sorted(cache.glob("[!.]*.npy"))
        if task == "det":
            files = [file for file in files if not file.name.startswith(MERGED_SEQUENCE)]
        names = [file.name.rsplit(".", 2)[0] for file in files]
        self.maps: list[Features] = [np.load(file, mmap_mode="r") for file in files]
        self.notes = [Annotation.load(frames / f"{name}{SUFFIX}") for name in names]
        self.chances = _chances([name.startswith(DRIVE_PREFIX) for name in names])
        self.rng = np.random.default_rng(seed)
        self.device = device

    def label_counts(self, classes: int) -> Tensor:
        """Labelled pixels (K,) of each class, over all maps."""
        return label_counts(self.notes, classes).to(self.device)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation (1, C, 1, 1) of each channel, over a spread of the maps."""
        few = np.stack([m[self.task] for m in self.maps[:: max(len(self.maps) // 64, 1)]])
        few = few.astype(np.float32)
        values = few.mean(axis=(0, 2, 3)), few.std(axis=(0, 2, 3)) + 1e-3
        mean, deviation = (torch.from_numpy(v).view(1, -1, 1, 1).to(self.device) for v in values)
        return mean, deviation

    def reseed(self, seed: int) -> None:
        """A run that resumes draws other crops than it began with."""
        self.rng = np.random.default_rng(seed)

    def __call__(self, batch: int, size: int, boxes: bool = False) -> FeatureBatch:
        """``size``: side of the crops in cells; ``boxes``: around one of the frame's boxes."""
        crops = [self._crop(size, boxes) for _ in range(batch)]
        features, labels, found = zip(*crops, strict=True)
        stacked = torch.from_numpy(np.stack(features)).to(self.device).float()
        return FeatureBatch(
            features=stacked.contiguous(memory_format=torch.channels_last),
            labels=torch.from_numpy(np.stack(labels)).to(self.device).long(),
            boxes=[torch.from_numpy(b) for b in found],
        )

    def _crop(self, size: int, boxes: bool) -> tuple[NDArray, NDArray, NDArray]:
        while True:
            i = int(self.rng.choice(len(self.maps), p=self.chances))
            note = self.notes[i]
            if not boxes or len(note.boxes):
                break
        _, _, height, width = self.maps[i].shape
        pixels = size * STRIDE
        corner = crop_corner(note, (width * STRIDE, height * STRIDE), pixels, boxes, self.rng)
        u, v = (int(side) // STRIDE for side in corner)
        x, y = u * STRIDE, v * STRIDE
        return (
            self.maps[i][self.task, :, v : v + size, u : u + size],
            note.labels[y : y + pixels, x : x + pixels],
            boxes_in_crop(note.boxes, x, y, pixels, flipped=False),
        )
