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
_CELL_WIDTH = 400
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
    title: str, subtitle: str, columns: Sequence[str], rows: Sequence[Row]
) -> np.ndarray:
    """Draw the figure, (H, W, 3) uint8 BGR; an image that a row lacks is left dark."""
    shape = next(image.shape for row in rows for image in row.images.values())
    cell_height = round(_CELL_WIDTH * shape[0] / shape[1])
    width = 2 * _MARGIN + len(columns) * (_CELL_WIDTH + _GAP) - _GAP
    strips = [_heading(width, title, subtitle, columns)]
    for row in rows:
        strips += [_caption(width, columns, row), _images(width, cell_height, columns, row)]
    return np.concatenate([*strips, _blank(width, _MARGIN)])


def _heading(width: int, title: str, subtitle: str, columns: Sequence[str]) -> np.ndarray:
    first, second, third = (round(size * _ROOM) for size in (_TITLE, _HEADER, _HEADER))
    strip = _blank(width, _MARGIN + first + second + third)
    draw_text(strip, title, (_MARGIN, baseline(_MARGIN, first, _TITLE)), _TITLE, _INK, bold=True)
    foot = baseline(_MARGIN + first - _GAP, second, _HEADER)
    draw_text(strip, subtitle, (_MARGIN, foot), _HEADER, _FAINT)
    foot = baseline(_MARGIN + first + second, third, _HEADER)
    for index, column in enumerate(columns):
        draw_text(strip, column, (_left(index), foot), _HEADER, _INK, bold=True)
    return strip


def _caption(width: int, columns: Sequence[str], row: Row) -> np.ndarray:
    strip = _blank(width, round(_CAPTION * _CAPTION_ROOM))
    foot = baseline(_GAP, strip.shape[0] - _GAP, _CAPTION)
    draw_text(strip, row.name, (_left(0), foot), _CAPTION, _INK)
    for index, column in enumerate(columns):
        if remark := row.remarks.get(column):
            x = _left(index) + _CELL_WIDTH - text_width(remark, _CAPTION)
            draw_text(strip, remark, (x, foot), _CAPTION, _FAINT)
    return strip


def _images(width: int, height: int, columns: Sequence[str], row: Row) -> np.ndarray:
    strip = _blank(width, height)
    for index, column in enumerate(columns):
        if (image := row.images.get(column)) is not None:
            method = cv2.INTER_AREA if image.shape[1] > _CELL_WIDTH else cv2.INTER_CUBIC
            cell = cv2.resize(image, (_CELL_WIDTH, height), interpolation=method)
            strip[:, _left(index) : _left(index) + _CELL_WIDTH] = cell
    return strip


def _left(column: int) -> int:
    return _MARGIN + column * (_CELL_WIDTH + _GAP)


def _blank(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), _BACKGROUND, np.uint8)
