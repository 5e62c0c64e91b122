"""Feature maps as pictures: their first three principal components as red, green and blue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_PERCENTILES = (1.0, 99.0)  # what becomes black and full colour; beyond it is clipped


def principal_pictures(maps: Sequence[np.ndarray]) -> list[np.ndarray]:
    """(h, w, c) float maps of one task -> (h, w, 3) uint8 BGR pictures, coloured alike.

    The components are those of all the maps together, so that a colour means the same in each.
    A map with fewer than three channels leaves the other colours black.
    """
    if not maps:
        return []
    channels = maps[0].shape[2]
    rows = np.concatenate([m.reshape(-1, channels) for m in maps]).astype(np.float64)
    mean = rows.mean(axis=0)
    covariance = np.atleast_2d(np.cov(rows - mean, rowvar=False))
    _, vectors = np.linalg.eigh(covariance)
    axes = _with_fixed_signs(vectors[:, ::-1][:, :3])
    projected = (rows - mean) @ axes
    low, high = np.percentile(projected, _PERCENTILES, axis=0)
    levels = (projected - low) / np.maximum(high - low, 1e-12)
    colours = np.zeros((len(rows), 3), np.uint8)
    colours[:, : axes.shape[1]] = np.round(np.clip(levels, 0.0, 1.0) * 255)
    ends = np.cumsum([m.shape[0] * m.shape[1] for m in maps])
    pieces = np.split(colours[:, ::-1], ends[:-1])
    return [
        np.ascontiguousarray(piece.reshape(*m.shape[:2], 3))
        for piece, m in zip(pieces, maps, strict=True)
    ]


def _with_fixed_signs(axes: np.ndarray) -> np.ndarray:
    """An eigenvector's sign is arbitrary: the largest entry is made positive."""
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return axes * np.where(largest < 0, -1.0, 1.0)
