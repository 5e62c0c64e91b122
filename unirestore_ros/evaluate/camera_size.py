"""What is restored of a camera whose frames are larger than the working size.

A frame is several clean images side by side, degraded as one. Its picture by the engine's way, with
the detail gain and with a gain of 1, is compared with the network run at the frame's own size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from unirestore_ros.engine.detail import DetailKeeper
from unirestore_ros.engine.working_size import SizeRule
from unirestore_ros.evaluate.conditions import degraded
from unirestore_ros.evaluate.methods import Image
from unirestore_ros.evaluate.metrics import psnr
from unirestore_ros.model import UniRestore
from unirestore_ros.model.unirestore import LEAST_SIDE, pad_to_multiple
from unirestore_ros.train.data import to_tensor
from unirestore_ros.train.prepare import read_photograph

Row = dict[str, Any]
SIGMA = 25
GAUSSIAN = f"sigma {SIGMA}"
"""Gaussian noise of that many grey levels, whatever the size."""
_BUDGET = (480, 360)


def measure(
    network: UniRestore, files: Sequence[Path], size: tuple[int, int], corruptions: Sequence[str]
) -> list[Row]:
    """Return a row for clean input, for Gaussian noise and for each corruption at severity 3:
    PSNR in dB, and the Laplacian's energy as a share of the clean frame's. ``size``: (W, H)."""
    clean = side_by_side(files, size)
    multiple, stride = network.config.multiple, max(network.config.tfa.strides)
    rule = SizeRule(_BUDGET, None, stride, multiple, LEAST_SIDE)
    sizes = rule.sizes_for(size)
    keeper = DetailKeeper(sizes)
    rows = []
    for name in tqdm([None, GAUSSIAN, *corruptions], unit="condition"):
        frame = _degraded(clean, name)
        images = {"full_size": _restored(network, frame)[0]}
        restored, gain = _restored(network, keeper.reduce(frame).copy())
        images["gain_1"] = keeper.fuse(restored, None).copy()
        images["gain"] = keeper.fuse(restored, gain).copy()
        row: Row = {
            "size": list(size),
            "working_size": list(sizes.working),
            "corruption": name,
            "degraded": None if name is None else round(psnr(frame, clean), 2),
        }
        for method, image in images.items():
            energy = laplacian_energy(image) / laplacian_energy(clean)
            row[method] = {"psnr": round(psnr(image, clean), 2), "laplacian": round(energy, 3)}
        row["mean_gain"] = None if gain is None else round(float(gain.mean()), 3)
        rows.append(row)
    return rows


def side_by_side(files: Sequence[Path], size: tuple[int, int]) -> Image:
    """Tile images of one size, row after row, over a frame of ``size`` (W, H); RGB (H, W, 3)."""
    images = [read_photograph(file).image for file in files]
    height, width = images[0].shape[:2]
    columns, rows = -(-size[0] // width), -(-size[1] // height)
    picks = [images[i % len(images)] for i in range(columns * rows)]
    lines = [np.concatenate(picks[i * columns : (i + 1) * columns], axis=1) for i in range(rows)]
    return np.ascontiguousarray(np.concatenate(lines)[: size[1], : size[0]])


def laplacian_energy(image: Image) -> float:
    """Return the variance of the grey image's Laplacian, in squared grey levels."""
    return float(cv2.Laplacian(image.astype(np.float32).mean(axis=2), cv2.CV_32F).var())


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| corruption | degraded | network at full size | gain 1 | detail gain | mean gain |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        figures = [row["degraded"], *(row[m]["psnr"] for m in ("full_size", "gain_1", "gain"))]
        words = ["" if figure is None else f"{figure:.2f}" for figure in figures]
        gain = "" if row["mean_gain"] is None else f"{row['mean_gain']:.2f}"
        name = row["corruption"] or "none (clean)"
        lines.append(f"| {' | '.join([name, *words, gain])} |")
    return "\n".join(lines) + "\n"


def _degraded(clean: Image, name: str | None) -> Image:
    if name is None:
        return clean
    if name != GAUSSIAN:
        return degraded(clean, name, 3, "side by side")
    noise = np.random.default_rng(0).normal(0, SIGMA, clean.shape)
    return np.clip(clean + noise, 0, 255).round().astype(np.uint8)


@torch.inference_mode()
def _restored(network: UniRestore, frame: Image) -> tuple[Image, np.ndarray | None]:
    """Return the restored frame (H, W, 3) uint8 and the gain (H, W, 1) float32, perception's."""
    height, width = frame.shape[:2]
    images = to_tensor([frame], next(network.parameters()).device)
    z0, skips = network.encode(pad_to_multiple(images, network.config.multiple))
    image, gain = network.decode_with_gain(network.denoise(z0), skips, "ir")

    def rows_of(tensor: Tensor) -> np.ndarray:
        return tensor[0, :, :height, :width].permute(1, 2, 0).cpu().numpy()

    levels = rows_of((image.clamp(0, 1) * 255).round().byte())
    return levels, None if gain is None else rows_of(gain)
