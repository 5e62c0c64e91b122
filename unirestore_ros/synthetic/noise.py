"""What all drawing shares: seeded generators, noise with the spectrum of natural textures."""

from __future__ import annotations

import functools
import zlib

import cv2
import numpy as np

Array = np.ndarray
Rng = np.random.Generator


def generator(seed: int, *key: str | int) -> Rng:
    """Make the generator that belongs to a seed and a key, the same on every machine."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
    return np.random.default_rng([seed % 2**32, *(word % 2**32 for word in words)])


def texture_noise(rng: Rng, height: int, width: int, slope: float = 1.0) -> Array:
    """Make tileable noise, float32 (H,W), mean 0 and deviation 1, amplitude falling as 1/f^slope.

    Natural images fall with a slope of about 1 (Field 1987); 0 is white.
    """
    white = rng.standard_normal((height, width), np.float32)
    if slope == 0:
        return white
    spectrum = np.fft.rfft2(white)
    fy = np.fft.fftfreq(height).astype(np.float32)[:, None] * height
    fx = np.fft.rfftfreq(width).astype(np.float32)[None, :] * width
    radius = np.sqrt(fx**2 + fy**2)
    radius[0, 0] = 1.0
    spectrum *= radius ** np.float32(-slope)
    spectrum[0, 0] = 0.0
    field = np.fft.irfft2(spectrum, s=(height, width)).astype(np.float32)
    return field / (field.std() + np.float32(1e-9))


def noise_patch(rng: Rng, height: int, width: int, slope: float) -> Array:
    """Cut noise (H,W) as of ``texture_noise`` at random out of a tile that is made once: fast.

    Read-only; not tileable itself; mean and deviation are those of the whole tile.
    """
    tile = _tile(slope)
    top, left = rng.integers(0, _TILE, 2)
    if height <= _TILE and width <= _TILE:
        top, left = top % (_TILE - height + 1), left % (_TILE - width + 1)
        return tile[top : top + height, left : left + width]
    rows = (np.arange(height) + top) % _TILE
    return tile[rows[:, None], (np.arange(width) + left) % _TILE]


def noise_strip(rng: Rng, width: int, slope: float) -> Array:
    """Cut noise (STRIP_ROWS, width) that continues from its last row to its first."""
    across = (np.arange(width) + rng.integers(_TILE)) % _TILE
    return np.roll(_tile(slope), int(rng.integers(_TILE)), axis=0)[:, across]


STRIP_ROWS = _TILE = 1024


@functools.lru_cache(maxsize=16)
def _tile(slope: float) -> Array:
    tile = texture_noise(generator(0, "tile"), _TILE, _TILE, slope)
    tile.flags.writeable = False
    return tile


def sway(t: float, phases: Array, periods: tuple[float, ...]) -> float:
    """Wander smoothly in about [-1, 1]: the mean of sines with these periods."""
    angles = 2 * np.pi * t / np.asarray(periods) + phases[: len(periods)]
    return float(np.sin(angles).mean())


Colour = tuple[int, int, int]


def palette(codes: str) -> tuple[Colour, ...]:
    """Read RGB colours, 0 to 255, from hex codes with spaces between."""
    return tuple((code[0], code[1], code[2]) for code in map(bytes.fromhex, codes.split()))


def to_uint8(image: Array) -> Array:
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def blurred(image: Array, sigma: float) -> Array:
    return cv2.GaussianBlur(image, (0, 0), sigma)
