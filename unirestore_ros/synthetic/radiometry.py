"""Between sRGB code values and linear light, where fog, blur, exposure and noise add up."""

from __future__ import annotations

import functools

import cv2
import numpy as np

_STEPS = 4095  # linear light is quantised this finely before its code value is looked up


@functools.cache
def _decode_table() -> np.ndarray:
    code = np.arange(256) / 255.0
    linear = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


@functools.cache
def _encode_table() -> np.ndarray:
    linear = np.arange(_STEPS + 1) / _STEPS
    code = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255.0 * code).astype(np.uint8)


def to_linear(image: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1], float32, of uint8 sRGB code values (IEC 61966-2-1)."""
    return cv2.LUT(image, _decode_table())


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """uint8 sRGB code values of linear light, clipped to [0, 1] as a sensor does."""
    index = np.clip(linear * _STEPS + 0.5, 0, _STEPS).astype(np.uint16)
    return np.take(_encode_table(), index)


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> np.ndarray:
    """Smooth random field in about [-1, 1], float32 (H,W), ``cells`` bumps across its width."""
    height, width = shape
    rows = max(2, round(cells * height / width))
    coarse = rng.uniform(-1.0, 1.0, (rows + 3, cells + 3)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
