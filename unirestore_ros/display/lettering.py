"""Text on pictures: OpenCV 5's outline font where there is one, OpenCV 4's strokes elsewhere."""

from __future__ import annotations

import cv2
import numpy as np

Colour = tuple[int, int, int]  # BGR

_REGULAR, _BOLD = 400, 700  # CSS font weights
_CAP_HEIGHT = 0.7  # of a capital, in text sizes
_STROKES = cv2.FONT_HERSHEY_SIMPLEX
_STROKES_HEIGHT = 30.0  # text size that looks like scale 1 of the stroked font


def draw_text(
    picture: np.ndarray,
    words: str,
    corner: tuple[int, int],
    size: int,
    colour: Colour,
    bold: bool = False,
) -> None:
    """Write in place; ``corner`` is where the baseline starts, ``size`` is in pixels."""
    if hasattr(cv2, "FontFace"):
        weight = _BOLD if bold else _REGULAR
        cv2.putText(picture, words, corner, colour, cv2.FontFace("sans"), size, weight)
    else:
        scale, width = size / _STROKES_HEIGHT, _stroke_width(size, bold)
        cv2.putText(picture, _ascii(words), corner, _STROKES, scale, colour, width, cv2.LINE_AA)


def text_width(words: str, size: int, bold: bool = False) -> int:
    """Pixels that ``draw_text`` takes for the words."""
    if hasattr(cv2, "FontFace"):
        weight = _BOLD if bold else _REGULAR
        box = cv2.getTextSize((0, 0), words, (0, 0), cv2.FontFace("sans"), size, weight)
        return int(box[0] + box[2])
    scale, width = size / _STROKES_HEIGHT, _stroke_width(size, bold)
    return int(cv2.getTextSize(_ascii(words), _STROKES, scale, width)[0][0])


def baseline(top: int, height: int, size: int) -> int:
    """Where text of that size stands so that it is in the middle of a strip."""
    return top + round((height + _CAP_HEIGHT * size) / 2)


def _stroke_width(size: int, bold: bool) -> int:
    return max(1, round(size / (12 if bold else 20)))


def _ascii(words: str) -> str:
    """The stroked font has no other characters."""
    return words.encode("ascii", "replace").decode()
