"""Draw text on images: with OpenCV 5's outline font where there is one, else OpenCV 4's strokes."""

from __future__ import annotations

import cv2
import numpy as np

Colour = tuple[int, int, int]  # BGR

_REGULAR, _BOLD = 400, 700  # CSS font weights
_CAP_HEIGHT = 0.7  # of a capital, in text sizes
_STROKES = cv2.FONT_HERSHEY_SIMPLEX
_STROKES_HEIGHT = 30.0  # text size that looks like scale 1 of the stroked font


def draw_text(
    image: np.ndarray,
    text: str,
    corner: tuple[int, int],
    size: int,
    colour: Colour,
    bold: bool = False,
) -> None:
    """Write on BGR (H,W,3) uint8, in place.

    ``corner``: x and y where the baseline starts; ``size``: text size in pixels.
    """
    if hasattr(cv2, "FontFace"):
        weight = _BOLD if bold else _REGULAR
        cv2.putText(image, text, corner, colour, cv2.FontFace("sans"), size, weight)
    else:
        scale, width = size / _STROKES_HEIGHT, _stroke_width(size, bold)
        cv2.putText(image, _ascii(text), corner, _STROKES, scale, colour, width, cv2.LINE_AA)


def text_width(text: str, size: int, bold: bool = False) -> int:
    """Return the width in pixels of what `draw_text` writes."""
    if hasattr(cv2, "FontFace"):
        weight = _BOLD if bold else _REGULAR
        box = cv2.getTextSize((0, 0), text, (0, 0), cv2.FontFace("sans"), size, weight)
        return int(box[0] + box[2])
    scale, width = size / _STROKES_HEIGHT, _stroke_width(size, bold)
    return int(cv2.getTextSize(_ascii(text), _STROKES, scale, width)[0][0])


def baseline(top: int, height: int, size: int) -> int:
    """Return the y of a baseline that centres text of that size in a strip, in pixels."""
    return top + round((height + _CAP_HEIGHT * size) / 2)


def _stroke_width(size: int, bold: bool) -> int:
    return max(1, round(size / (12 if bold else 20)))


def _ascii(text: str) -> str:
    """Replace the characters that the stroked font does not have."""
    return text.encode("ascii", "replace").decode()
