"""Fidelity of an image to its reference, and what of labels and boxes is right: numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

PSNR_CAP_DB = 100.0


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 images of one shape, over all channels.

    Identical images have an infinite ratio; PSNR_CAP_DB stands for it, so that means stay finite.
    (The least error of a 480x360 frame, one level in one channel, is 105 dB and capped too.)
    """
    if image.shape != reference.shape:
        raise ValueError(f"shapes differ: {image.shape} and {reference.shape}")
    if image.dtype != np.uint8 or reference.dtype != np.uint8:
        raise ValueError(f"need uint8 images, got {image.dtype} and {reference.dtype}")
    error = float(np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2))
    if error == 0.0:
        return PSNR_CAP_DB
    return min(PSNR_CAP_DB, 10.0 * float(np.log10(255.0**2 / error)))


class ScoredBox(NamedTuple):
    """A box found in an image, in pixels."""

    image: int
    score: float
    left: float
    top: float
    right: float
    bottom: float


def confusion(found: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Pixels (K, K) by true class (rows) and found class; true labels from K on are ignored."""
    counted = truth < classes
    pairs = truth[counted].astype(np.int64) * classes + found[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def mean_iou(matrix: np.ndarray) -> float:
    """Mean over the classes that occur, in truth or in what was found, of intersection over union,
    from a ``confusion`` summed over images."""
    hits = np.diag(matrix).astype(np.float64)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - hits
    return float(np.mean(hits[union > 0] / union[union > 0]))


def average_precision(
    found: Sequence[ScoredBox], truth: Sequence[np.ndarray], least_iou: float = 0.5
) -> float:
    """Area under precision over recall of one class, precision made monotonic (PASCAL VOC's, all
    points). ``truth``: for each image (N, 4) left, top, right, bottom. 0 where nothing is there."""
    total = sum(len(boxes) for boxes in truth)
    taken = [np.zeros(len(boxes), bool) for boxes in truth]
    hits = np.zeros(len(found), bool)
    for i, box in enumerate(sorted(found, key=lambda one: -one.score)):
        overlaps = _ious(np.array(box[2:]), truth[box.image])
        if len(overlaps) and overlaps.max() >= least_iou:
            best = int(overlaps.argmax())
            hits[i] = not taken[box.image][best]
            taken[box.image][best] = True
    recall = np.cumsum(hits) / max(total, 1)
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def _ious(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.prod(np.clip(sides, 0, None), axis=1)
    areas = np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1)
    return np.asarray(shared / np.maximum(areas - shared, 1e-9))
