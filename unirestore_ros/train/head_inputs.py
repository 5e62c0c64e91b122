"""What heads are compared on: of each frame the adapter's features, the restored image and the
degraded pixels, with the labels of both."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from unirestore_ros.model import UniRestore
from unirestore_ros.model.unirestore import pad_to_multiple
from unirestore_ros.synthetic.corruptions import COMMON, corrupt
from unirestore_ros.train.dataset import read_labelled
from unirestore_ros.train.features import STRIDE
from unirestore_ros.train.labelled import SUFFIX, Annotation, crop_corner
from unirestore_ros.train.pairs import Image, to_tensor
from unirestore_ros.train.prepare import photographs, read_photograph

ADAPTER, RESTORED, DEGRADED = "adapter features", "restored image", "degraded pixels"
INPUTS = (ADAPTER, RESTORED, DEGRADED)
TASK = "seg"
"""Whose prompt makes both the features and the restored image."""


@dataclasses.dataclass(frozen=True)
class HeadFrame:
    """One frame as each of INPUTS, (C, h, w), float16 or uint8; and its annotation."""

    inputs: dict[str, NDArray]
    note: Annotation


@torch.inference_mode()
def head_frame(network: UniRestore, image: Image, note: Annotation) -> HeadFrame:
    device = next(network.parameters()).device
    images = to_tensor([image], device)
    z0, skips = network.encode(pad_to_multiple(images, network.config.multiple))
    zt = network.denoise(z0)
    height, width = image.shape[:2]
    features = network.adapt(zt, skips, TASK, STRIDE)[0, :, : height // STRIDE, : width // STRIDE]
    restored = network.decode(zt, skips, TASK)[0, :, :height, :width].clamp(0, 1) * 255
    inputs = {
        ADAPTER: features.half().cpu().numpy(),
        RESTORED: restored.round().byte().cpu().numpy(),
        DEGRADED: np.ascontiguousarray(image.transpose(2, 0, 1)),
    }
    return HeadFrame(inputs, note)


def training_frames(network: UniRestore, frames: Path, limit: int) -> list[HeadFrame]:
    """At most ``limit`` prepared frames with labels, evenly spread, each in one of its degraded
    versions."""
    files = sorted(frames.glob(f"[!.]*{SUFFIX}"))
    if not files:
        raise ValueError(f"no labelled frames in {frames}: run `train prepare` first")
    made = []
    for file in tqdm(spread(files, limit), desc="frames", unit="frame"):
        name = file.name.removesuffix(SUFFIX)
        stack = np.load(frames / f"{name}.npy", mmap_mode="r")
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[4:8], "big")
        version = int(np.random.default_rng(seed).integers(1, len(stack)))
        made.append(head_frame(network, np.array(stack[version]), Annotation.load(file)))
    return made


def scoring_frames(
    network: UniRestore, data: Path, limit: int | None, severity: int
) -> list[HeadFrame]:
    """Images of a labelled folder, each degraded by one of the common corruptions in turn."""
    notes = read_labelled(data)
    made = []
    files = spread(photographs([data / "images"]), limit)
    for i, file in enumerate(tqdm(files, desc="scoring frames", unit="frame")):
        clean = read_photograph(file).image
        degraded = corrupt(clean, COMMON[i % len(COMMON)], severity, file.name)
        made.append(head_frame(network, degraded, notes[file.stem]))
    return made


def spread(files: Sequence[Path], limit: int | None) -> list[Path]:
    count = min(limit or len(files), len(files))
    return [files[int(i)] for i in np.linspace(0, len(files) - 1, count).round()]


class HeadSampler:
    """Draws crops of one of INPUTS, with their labels; the same crops for each, by the seed."""

    def __init__(
        self, frames: Sequence[HeadFrame], name: str, seed: int, device: torch.device
    ) -> None:
        self._frames, self._name, self._device = frames, name, device
        self._rng = np.random.default_rng(seed)

    def __call__(self, batch: int, cells: int) -> tuple[Tensor, Tensor]:
        """Crops (B, C, S, S), images in [0, 1], and labels (B, 4 cells, 4 cells)."""
        crops = [self._crop(cells, near_box=i % 2 == 1) for i in range(batch)]
        inputs, labels = zip(*crops, strict=True)
        x = scaled(np.stack(inputs), self._device)
        return x, torch.from_numpy(np.stack(labels)).to(self._device).long()

    def _crop(self, cells: int, near_box: bool) -> tuple[NDArray, NDArray]:
        """``near_box``: around one of the frame's boxes if it has any: small things are rare."""
        frame = self._frames[int(self._rng.integers(len(self._frames)))]
        height, width = frame.note.labels.shape
        boxes = near_box and len(frame.note.boxes) > 0
        size = (width // STRIDE * STRIDE, height // STRIDE * STRIDE)
        corner = crop_corner(frame.note, size, cells * STRIDE, boxes, self._rng)
        u, v = (int(side) // STRIDE for side in corner)
        step = 1 if self._name == ADAPTER else STRIDE
        rows, columns = (slice(at * step, (at + cells) * step) for at in (v, u))
        over = tuple(slice(at * STRIDE, (at + cells) * STRIDE) for at in (v, u))
        return frame.inputs[self._name][:, rows, columns], frame.note.labels[over]


def scaled(values: NDArray, device: torch.device) -> Tensor:
    """(B, C, H, W) as a head reads it: features as they are, images in [0, 1]."""
    x = torch.from_numpy(values).to(device).float()
    if values.dtype == np.uint8:
        x = x / 255
    return x.contiguous(memory_format=torch.channels_last)
