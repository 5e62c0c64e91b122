"""Fidelity of an image to its reference, and how many labels and boxes are right: numpy alone."""

from __future__ import annotations

import cv2
import numpy as np

PSNR_CAP_DB = 100.0
DRAWS = 500


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Compute the peak signal-to-noise ratio in dB of two uint8 images of one shape, over all
    channels.

    Identical images have an infinite ratio; PSNR_CAP_DB stands for it, so that means stay finite.
    (The least error of a 480x360 frame, one level in one channel, is 105 dB and capped too.)
    """
    if image.shape != reference.shape:
        raise ValueError(f"shapes differ: {image.shape} and {reference.shape}")
    if image.dtype != np.uint8 or reference.dtype != np.uint8:
        raise ValueError(f"need uint8 images, got {image.dtype} and {reference.dtype}")
    error = float(np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2))
    return min(PSNR_CAP_DB, _decibels(error, 255.0))


def float_psnr(values: np.ndarray, reference: np.ndarray, span: float) -> float:
    """Compute the same of float arrays of one shape, ``span`` being the range of the reference's
    values.

    Infinite where both are alike, minus infinity where the error is NaN.
    """
    return _decibels(float(np.mean((values.astype(np.float64) - reference) ** 2)), span)


def _decibels(mean_square_error: float, span: float) -> float:
    if np.isnan(mean_square_error):
        return -np.inf
    if mean_square_error == 0.0:
        return np.inf
    return 10.0 * float(np.log10(span**2 / mean_square_error))


def phase_deviation(image: np.ndarray, period: int) -> float:
    """How strong a grid of that period is in a uint8 image (H, W) or (H, W, 3), in grey levels.

    The grey image less its Gaussian blur (sigma 4 pixels) is averaged over all pixels of one phase
    (x mod period, y mod period); the standard deviation over the phases. Photographs: about 0.05 at
    a period of 2, and 0.4 at 8 where they were JPEGs.
    """
    grey = image.astype(np.float32)
    if grey.ndim == 3:
        grey = grey.mean(axis=2)
    fine = grey - cv2.GaussianBlur(grey, (0, 0), 4)
    height, width = (side // period for side in fine.shape)
    cells = fine[: height * period, : width * period].reshape(height, period, width, period)
    return float(cells.mean(axis=(0, 2)).std())


def confusion(found: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Count pixels by true class (rows) and found class: int64 (K, K).

    ``found`` and ``truth``: labels (H, W); true labels from K on are ignored.
    """
    counted = truth < classes
    pairs = truth[counted].astype(np.int64) * classes + found[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def mean_iou(matrix: np.ndarray) -> float:
    """Average intersection over union over the classes that occur, in truth or in what was found,
    from a ``confusion`` summed over images."""
    return float(mean_ious(matrix[None])[0])


def mean_ious(matrices: np.ndarray) -> np.ndarray:
    """Compute the ``mean_iou`` (N,) of each of (N, K, K) confusions."""
    hits = np.diagonal(matrices, axis1=1, axis2=2).astype(np.float64)
    union = matrices.sum(axis=1) + matrices.sum(axis=2) - hits
    ious = np.divide(hits, union, out=np.zeros_like(hits), where=union > 0)
    return np.asarray(ious.sum(axis=1) / np.maximum((union > 0).sum(axis=1), 1))


def match_boxes(found: np.ndarray, truth: np.ndarray, least_iou: float = 0.5) -> np.ndarray:
    """Tell which of the boxes found in an image are right, (N,) bool: the first on each true box,
    where its overlap with that is its largest and enough.

    ``found`` (N, 4), best first, and ``truth`` (M, 4): left, top, right, bottom in pixels.
    """
    taken, hits = np.zeros(len(truth), bool), np.zeros(len(found), bool)
    for i, box in enumerate(found):
        overlaps = _ious(box, truth)
        if len(overlaps) and overlaps.max() >= least_iou:
            best = int(overlaps.argmax())
            hits[i] = not taken[best]
            taken[best] = True
    return hits


def average_precision(
    scores: np.ndarray, hits: np.ndarray, total: int, weights: np.ndarray | None = None
) -> float:
    """Compute the area under precision over recall of one class, precision made monotonic (PASCAL
    VOC's, all points). ``scores`` and ``hits`` (N,) are of every box found in any image, ``total``
    of the true ones, ``weights`` (N,) how often each counts. 0 where nothing is there.
    """
    order = np.argsort(-scores, kind="stable")
    counted = np.ones(len(scores)) if weights is None else weights[order]
    right, all_found = np.cumsum(hits[order] * counted), np.cumsum(counted)
    recall, precision = right / max(total, 1), right / np.maximum(all_found, 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def drawn_weights(images: int) -> np.ndarray:
    """Count how often each image is drawn, int64 (DRAWS + 1, images): once each in the first row,
    then with replacement. The draws are always the same, so that methods can be compared."""
    rng = np.random.default_rng(0)
    picks = rng.integers(images, size=(DRAWS, images))
    counts = [np.bincount(pick, minlength=images) for pick in picks]
    return np.stack([np.ones(images, np.int64), *counts])


def confidence_interval(draws: np.ndarray) -> dict[str, float]:
    """Return ``value``, on the images as they are, the first of the draws (DRAWS + 1,); ``low``
    and ``high`` bound the central 95 % of the others."""
    low, high = np.percentile(draws[1:], (2.5, 97.5))
    values = {"value": draws[0], "low": low, "high": high}
    return {name: round(float(value), 5) for name, value in values.items()}


def _ious(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.prod(np.clip(sides, 0, None), axis=1)
    areas = np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1)
    return np.asarray(shared / np.maximum(areas - shared, 1e-9))
