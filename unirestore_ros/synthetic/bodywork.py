"""Pictures that lie on vehicles: seams, handles, and soft mirrored surroundings."""

from __future__ import annotations

import cv2
import numpy as np

from unirestore_ros.synthetic.noise import noise_patch, to_uint8


def make_detail(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Premultiplied RGBA, 64 by 256 for a flank, 64 by 128 for tail and glass."""
    width = 256 if kind == "flank" else 128
    stretched = noise_patch(rng, 64, 64, 1.3)
    noise = cv2.resize(stretched, (width, 64), interpolation=cv2.INTER_CUBIC)
    strength = 42.0 if kind == "glass" else 16.0
    tone = np.where(noise > 0, 205.0 if kind == "glass" else 255.0, 0.0)
    alpha = np.clip(np.abs(noise) * strength, 0, 150)
    if kind == "flank":
        _seams(tone, alpha, rng)
    elif kind == "tail":
        _line(tone, alpha, (8, 20), (120, 20), 0.0, 130.0)
        _line(tone, alpha, (10, 20), (6, 60), 0.0, 90.0)
        _line(tone, alpha, (118, 20), (122, 60), 0.0, 90.0)
        _line(tone, alpha, (54, 30), (74, 30), 0.0, 150.0)
    else:
        _line(tone, alpha, (20, 58), (84, 50), 0.0, 190.0)
    colour = np.repeat((tone * alpha / 255)[..., None], 3, axis=2)
    return np.dstack((to_uint8(colour), to_uint8(alpha)))


def _seams(tone: np.ndarray, alpha: np.ndarray, rng: np.random.Generator) -> None:
    """Doors, handles, a moulding and dirt above the sill."""
    door = int(rng.integers(96, 116))
    for x in (door - 42, door, door + 46):
        _line(tone, alpha, (x, 0), (x + 2, 58), 0.0, 130.0)
    for x in (door - 12, door + 34):
        _line(tone, alpha, (x, 12), (x + 8, 12), 15.0, 170.0)
        _line(tone, alpha, (x, 10), (x + 8, 10), 240.0, 90.0)
    _line(tone, alpha, (10, 40), (246, 40), 10.0, 100.0)
    rows = np.linspace(0, 1, 64)[:, None] ** 5
    dirt = 90.0 * rows * np.ones_like(alpha)
    tone += (95.0 - tone) * (dirt > alpha)
    np.maximum(alpha, dirt, out=alpha)


def _line(
    tone: np.ndarray,
    alpha: np.ndarray,
    start: tuple[int, int],
    end: tuple[int, int],
    grey: float,
    strength: float,
) -> None:
    cv2.line(tone, start, end, grey, 1)
    cv2.line(alpha, start, end, strength, 1)
