"""The figure of before and after: a row a stretch of the drive, a column a kind of image."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from unirestore_ros.display.lettering import Colour, baseline, draw_text, text_width

_BACKGROUND: Colour = (28, 24, 22)
_INK: Colour = (240, 240, 240)
_FAINT: Colour = (165, 160, 155)
CELL_WIDTH = 400
_GAP = 8
_MARGIN = 24
_TITLE, _HEADER, _CAPTION = 30, 20, 20  # text sizes
_ROOM = 1.9  # height of a line of text, in text sizes
_CAPTION_ROOM = 2.4


@dataclasses.dataclass(frozen=True)
class Row:
    """One stretch: its name; by column, a remark and an image, (H, W, 3) uint8 BGR."""

    name: str
    remarks: Mapping[str, str]
    images: Mapping[str, np.ndarray]


def draw_figure(
    title: str,
    subtitle: str,
    columns: Sequence[str],
    rows: Sequence[Row],
    cell_width: int = CELL_WIDTH,
) -> np.ndarray:
    """Draw the figure, (H, W, 3) uint8 BGR, with images of ``cell_width`` pixels; an image that a
    row lacks is left dark."""
    shape = next(image.shape for row in rows for image in row.images.values())
    cell = cell_width, round(cell_width * shape[0] / shape[1])
    width = 2 * _MARGIN + len(columns) * (cell_width + _GAP) - _GAP
    strips = [_heading(width, title, subtitle, columns, cell_width)]
    for row in rows:
        strips += [_caption(width, columns, row, cell_width), _images(width, cell, columns, row)]
    return np.concatenate([*strips, _blank(width, _MARGIN)])


def _heading(
    width: int, title: str, subtitle: str, columns: Sequence[str], cell_width: int
) -> np.ndarray:
    first, second, third = (round(size * _ROOM) for size in (_TITLE, _HEADER, _HEADER))
    strip = _blank(width, _MARGIN + first + second + third)
    draw_text(strip, title, (_MARGIN, baseline(_MARGIN, first, _TITLE)), _TITLE, _INK, bold=True)
    foot = baseline(_MARGIN + first - _GAP, second, _HEADER)
    draw_text(strip, subtitle, (_MARGIN, foot), _HEADER, _FAINT)
    foot = baseline(_MARGIN + first + second, third, _HEADER)
    for index, column in enumerate(columns):
        draw_text(strip, column, (_left(index, cell_width), foot), _HEADER, _INK, bold=True)
    return strip


def _caption(width: int, columns: Sequence[str], row: Row, cell_width: int) -> np.ndarray:
    strip = _blank(width, round(_CAPTION * _CAPTION_ROOM))
    foot = baseline(_GAP, strip.shape[0] - _GAP, _CAPTION)
    draw_text(strip, row.name, (_left(0, cell_width), foot), _CAPTION, _INK)
    for index, column in enumerate(columns):
        if remark := row.remarks.get(column):
            x = _left(index, cell_width) + cell_width - text_width(remark, _CAPTION)
            draw_text(strip, remark, (x, foot), _CAPTION, _FAINT)
    return strip


def _images(width: int, cell: tuple[int, int], columns: Sequence[str], row: Row) -> np.ndarray:
    strip = _blank(width, cell[1])
    for index, column in enumerate(columns):
        if (image := row.images.get(column)) is not None:
            method = cv2.INTER_AREA if image.shape[1] > cell[0] else cv2.INTER_CUBIC
            left = _left(index, cell[0])
            strip[:, left : left + cell[0]] = cv2.resize(image, cell, interpolation=method)
    return strip


def _left(column: int, cell_width: int) -> int:
    return _MARGIN + column * (cell_width + _GAP)


def _blank(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), _BACKGROUND, np.uint8)
