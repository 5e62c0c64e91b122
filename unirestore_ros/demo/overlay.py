"""The driver's overlay: camera left, restored right, and a strip that says what is seen."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from unirestore_ros.demo.names import RESTORED_MODE
from unirestore_ros.display.lettering import Colour, baseline, draw_text, text_width

GREEN: Colour = (88, 160, 42)
AMBER: Colour = (20, 150, 240)
WHITE: Colour = (245, 245, 245)
GREY: Colour = (170, 170, 170)
DARK: Colour = (30, 26, 24)

_LEAST_WIDTH = 960
_STRIP = 56
_TEXT = 24
_LABEL = 20
_MARGIN = 16


@dataclasses.dataclass(frozen=True)
class Glance:
    """What the strip says: mode, stretch of the drive, frames a second, age in milliseconds."""

    mode: str
    stretch: str
    fps: float | None
    age_ms: float | None


def draw_overlay(camera: np.ndarray, shown: np.ndarray, glance: Glance) -> np.ndarray:
    """Two (H, W, 3) uint8 BGR pictures of one frame -> the split view with its strip below."""
    factor = max(1, -(-_LEAST_WIDTH // camera.shape[1]))
    split = _split_view(camera, shown, factor)
    _label(split, "camera", left=True)
    _label(split, "restored" if glance.mode == RESTORED_MODE else "camera, passed on", left=False)
    return np.concatenate((split, _strip(split.shape[1], glance)))


def _split_view(camera: np.ndarray, shown: np.ndarray, factor: int) -> np.ndarray:
    middle = camera.shape[1] // 2
    split = np.concatenate((camera[:, :middle], shown[:, middle:]), axis=1)
    # MPEG-4 wants even sides.
    size = (split.shape[1] * factor // 2 * 2, split.shape[0] * factor // 2 * 2)
    split = cv2.resize(split, size, interpolation=cv2.INTER_CUBIC)
    x = size[0] * middle // camera.shape[1]
    cv2.line(split, (x, 0), (x, size[1]), DARK, 5)
    cv2.line(split, (x, 0), (x, size[1]), WHITE, 2)
    return split


def _label(picture: np.ndarray, words: str, left: bool) -> None:
    """A name in an upper corner, on a darkened patch so that it is read on snow too."""
    width = text_width(words, _LABEL) + 2 * _MARGIN
    x = 0 if left else picture.shape[1] - width
    patch = picture[: _LABEL + _MARGIN, x : x + width]
    patch[:] = cv2.addWeighted(patch, 0.35, np.full_like(patch, DARK), 0.65, 0)
    foot = baseline(0, patch.shape[0], _LABEL)
    draw_text(picture, words, (x + _MARGIN, foot), _LABEL, WHITE)


def _strip(width: int, glance: Glance) -> np.ndarray:
    strip = np.full((_STRIP, width, 3), DARK, np.uint8)
    foot = baseline(0, _STRIP, _TEXT)
    mode = glance.mode.upper()
    pill = text_width(mode, _TEXT, bold=True) + 2 * _MARGIN
    strip[:, :pill] = GREEN if glance.mode == RESTORED_MODE else AMBER
    draw_text(strip, mode, (_MARGIN, foot), _TEXT, WHITE, bold=True)
    draw_text(strip, glance.stretch, (pill + _MARGIN, foot), _TEXT, WHITE)
    figures = f"{_figure(glance.fps, '.1f')} fps    age {_figure(glance.age_ms, '.0f')} ms"
    x = width - text_width(figures, _TEXT) - _MARGIN
    draw_text(strip, figures, (x, foot), _TEXT, GREY)
    return strip


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
