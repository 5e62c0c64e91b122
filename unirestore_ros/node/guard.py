"""Check a restored frame against its input: a network that errs must not be believed.

A restoration may change tone, haze, colour and sharpness, but not what is there. So wherever the
restored frame has structure, the input must have it too, up to a smooth map of tones; and where
the input has structure far above what fog, rain or noise would make, it must not vanish.

Both frames are reduced to about 240x180 pixels. In a window around each pixel, the restored frame
is fitted by an affine map of the input; what the fit leaves is *added* structure, and what the
opposite fit leaves is *vanished* structure. These are averaged over boxes of a pedestrian's shape,
at two scales, in brightness and colour. A small network with one hidden layer, calibrated by
`evaluate/guard_calibration.py`, weighs them for every cell of 8x8 working pixels, given their mean
and spread over the frame: strong fog leaves more unexplained everywhere than a clear day. The score
is that of the worst cell.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Fit = tuple[Floats, Floats]

MODEL_FILE = Path(__file__).with_name("guard.json")
"""Written by `python -m unirestore_ros.evaluate.guard_calibration`."""
REFUSED_FROM = 0.5
_PIXELS = 240 * 180
"""Frames are compared at about this many pixels, whatever size they have."""
_CELL = 4
"""Side of a cell at that size: statistics are smooth, so every fourth pixel holds them."""
_MOMENTS, _BOXES = ("added", "vanished", "kept_input", "explained"), ("box", "big_box", "gone_box")
FEATURE_NAMES = (
    *(f"fine_{name}" for name in _MOMENTS),
    *(f"{at}_{n}" for at in ("coarse", "wide", "colour") for n in (*_MOMENTS, *_BOXES)),
)
FEATURES = len(FEATURE_NAMES)
"""Statistics of a cell."""
SUSPICIOUS = np.array([not name.endswith(_MOMENTS[2:]) for name in FEATURE_NAMES])
"""(FEATURES,): those of which more must never lower a cell's score."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the guard says of a restored frame."""

    score: float
    """From 0 (faithful) to 1; the largest of the map."""
    map: Image
    """How far each cell strays, (h,w) uint8, score times 255; about 60x45 over the whole frame."""

    @property
    def refused(self) -> bool:
        return self.score >= REFUSED_FROM


@dataclasses.dataclass(frozen=True)
class GuardModel:
    """What calibration found. n = 3 * FEATURES inputs (a cell's statistics; their mean and standard
    deviation over the frame), k hidden units."""

    centre: Floats
    """(n,): subtracted from the inputs, which are then divided by ``scale``."""
    scale: Floats
    hidden: Floats
    """(n,k)"""
    hidden_bias: Floats
    """(k,)"""
    output: Floats
    """(k,)"""
    direct: Floats
    """(n,): the inputs' own weights beside the hidden units."""
    bias: float
    """Chosen so that the highest cell of one good frame in a hundred exceeds 0."""

    @classmethod
    def read(cls, file: Path) -> GuardModel:
        fields: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        arrays: dict[str, Any] = {
            name: np.array(value, np.float32) for name, value in fields.items() if name != "bias"
        }
        return cls(**arrays, bias=float(fields["bias"]))

    def write(self, file: Path) -> None:
        fields = {
            name: np.round(np.asarray(value, np.float64), 5).tolist()
            for name, value in dataclasses.asdict(self).items()
        }
        file.write_text(json.dumps(fields) + "\n", encoding="utf-8")

    def logits(self, cells: Floats) -> Floats:
        """Score cells: (h,w,FEATURES) -> (h,w), above 0 where the frame is to be refused."""
        flat = cells.reshape(-1, FEATURES)
        mean = flat.mean(0)
        off_mean = flat - mean
        variance = np.einsum("ij,ij->j", off_mean, off_mean) / np.float32(len(flat))
        of_frame = np.concatenate([mean, np.sqrt(variance)])
        split = FEATURES  # the inputs behind are the same for every cell: they are weighed once
        own = (cells - self.centre[:split]) / self.scale[:split]
        shared = (of_frame - self.centre[split:]) / self.scale[split:]
        # Row by row, as matmul computes (h,w,n) with (n,k): a product as small as a row's starts no
        # threads of a BLAS, which go on spinning after it and took a core of two from the engine.
        hidden = own @ self.hidden[:split]
        hidden += np.einsum("j,jk->k", shared, self.hidden[split:]) + self.hidden_bias
        logit: Floats = np.einsum("hwk,k->hw", np.maximum(hidden, np.float32(0)), self.output)
        logit += np.einsum("hwj,j->hw", own, self.direct[:split])
        logit += np.einsum("j,j->", shared, self.direct[split:]) + np.float32(self.bias)
        return logit


@functools.cache
def calibrated() -> GuardModel:
    """Read the model that the package ships."""
    return GuardModel.read(MODEL_FILE)


class Guard:
    """Judges restored frames. It holds no state: the same pair has the same verdict."""

    def __init__(self, model: GuardModel | None = None) -> None:
        self._model = calibrated() if model is None else model

    def check(self, frame: Image, restored: Image) -> Verdict:
        """Compare a camera's frame with its restoration, both (H,W,3) uint8 RGB."""
        logits = self._model.logits(cell_features(frame, restored))
        if not np.isfinite(logits).all():
            return Verdict(1.0, np.full(logits.shape, 255, np.uint8))
        scores = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
        return Verdict(float(scores.max()), np.rint(scores * 255).astype(np.uint8))


def all_finite(features: NDArray[np.float32]) -> bool:
    """Tell whether a feature map holds neither infinity nor NaN.

    A sum is NaN or infinite if any of its parts is, and needs no array of flags beside the map. One
    that overflows from finite values alone is as unusable.
    """
    return bool(np.isfinite(np.sum(features, dtype=np.float64)))


def cell_features(frame: Image, restored: Image) -> Floats:
    """Compute local statistics in the order of ``FEATURE_NAMES``, (h,w,FEATURES), as logarithms."""
    size = _compared_size(frame.shape[1], frame.shape[0])
    x, y = _reduce(frame, size), _reduce(restored, size)
    maps = [_sampled(m, _CELL) for m in _moments(_luma(x), _luma(y), 7, (5, 9))[0]]
    (xl, xr, xb), (yl, yr, yb) = _half_size(x), _half_size(y)
    coarse = [_statistics(xl, yl, 7), _statistics(xl, yl, 17)]
    red, blue = _statistics(xr, yr, 7), _statistics(xb, yb, 7)
    coarse.append([r + b for r, b in zip(red, blue, strict=True)])
    maps += [_sampled(m, _CELL // 2) for statistics in coarse for m in statistics]
    logs: Floats = np.log1p(np.maximum(np.stack(maps, axis=-1), 0))
    for first in (i for i, name in enumerate(FEATURE_NAMES) if name.endswith(_MOMENTS[0])):
        # Keep what the fits explain of the variances: the rest is in the features before them.
        logs[..., first + 2] -= logs[..., first + 1]
        logs[..., first + 3] -= logs[..., first]
    return logs


def _compared_size(width: int, height: int) -> tuple[int, int]:
    """Return width and height, multiples of 4, of about ``_PIXELS`` and never above the frame's."""
    factor = min(1.0, (_PIXELS / (width * height)) ** 0.5)
    return max(8, int(width * factor) // 4 * 4), max(8, int(height * factor) // 4 * 4)


def _reduce(image: Image, size: tuple[int, int]) -> Image:
    """Reduce an RGB image to (width, height) ``size``, as Y'CrCb."""
    # Averaging all pixels of a large frame would take longer than everything else; four of them for
    # each that is compared are enough, since both frames are thinned alike.
    if image.shape[1] > 2 * size[0]:
        twice = (2 * size[0], 2 * size[1])
        image = cast(Image, cv2.resize(image, twice, interpolation=cv2.INTER_LINEAR))
    reduced = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cast(Image, cv2.cvtColor(reduced, cv2.COLOR_RGB2YCrCb))


def _luma(image: Image) -> Floats:
    return cast(Floats, cv2.GaussianBlur(image[..., 0].astype(np.float32), (5, 5), 0.8))


def _half_size(image: Image) -> Sequence[Floats]:
    """Reduce the three channels to half the size."""
    size = (image.shape[1] // 2, image.shape[0] // 2)
    half = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    return cast(Sequence[Floats], cv2.split(half))


def _sampled(image: Floats, step: int) -> Floats:
    return image[step // 2 :: step, step // 2 :: step]


def _box(image: Floats, size: tuple[int, int]) -> Floats:
    return cast(Floats, cv2.boxFilter(image, -1, size, borderType=cv2.BORDER_REFLECT))


def _moments(
    x: Floats, y: Floats, window: int, box: tuple[int, int]
) -> tuple[list[Floats], Fit, Fit]:
    """Variance that affine fits of y on x, and of x on y, leave in a square window; the
    variances of x and y; all averaged over ``box``. With the fits: slope and offset."""
    square = (window, window)
    mx, my = _box(x, square), _box(y, square)
    vx = np.maximum(_box(x * x, square) - mx * mx, 0)
    vy = np.maximum(_box(y * y, square) - my * my, 0)
    # Structure of the opposite sign is no restoration: it counts as unexplained.
    covariance = np.maximum(_box(x * y, square) - mx * my, 0)
    # The floors are the variance of noise: rounding in the input, fine texture in the restored.
    slope, back = covariance / (vx + np.float32(0.1)), covariance / (vy + np.float32(2.0))
    added, vanished = vy - covariance * slope, vx - covariance * back
    averages = [_box(image, box) for image in (added, vanished, vx, vy)]
    return averages, (slope, my - slope * mx), (back, mx - back * my)


def _statistics(x: Floats, y: Floats, window: int) -> list[Floats]:
    """``_moments``, and how far residuals of one sign fill boxes: an object does, ringing and noise
    do not."""
    moments, there, back = _moments(x, y, window, (3, 5))
    added, vanished = _residual(x, y, there, window), _residual(y, x, back, window)
    boxes = _box(added, (3, 7)), _box(added, (5, 11)), _box(vanished, (3, 7))
    return moments + [box * box for box in boxes]


def _residual(source: Floats, target: Floats, fit: Fit, window: int) -> Floats:
    slope, offset = (_box(image, (window, window)) for image in fit)
    return target - slope * source - offset
