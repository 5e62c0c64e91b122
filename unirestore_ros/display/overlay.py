"""What machines saw in a frame, to be drawn over it: boxes, and where the road is."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from unirestore_ros.display.lettering import Colour, baseline, draw_text, text_width
from unirestore_ros.msgs.cdr import ImageView
from unirestore_ros.msgs.errors import UnsupportedFrame
from unirestore_ros.msgs.image_conversion import Pixels, check_image, view_pixels

ROAD_COLOUR: Colour = (150, 190, 40)
_ROAD_SHARE = 0.35
_BOX_COLOUR: Colour = (64, 200, 255)
_MOST_BOXES = 100
_LINE_STRIP, _ADD = 4, 0  # visualization_msgs/Marker
_WIDEST_MASK = 320


@dataclass(frozen=True)
class Box:
    """Corners in pixels of the camera's image."""

    left: float
    top: float
    right: float
    bottom: float
    text: str
    colour: Colour

    def as_list(self) -> list[object]:
        """For JSON: corners, text, colour as CSS has it."""
        blue, green, red = self.colour
        corners = [round(side, 1) for side in (self.left, self.top, self.right, self.bottom)]
        return [*corners, self.text, f"#{red:02x}{green:02x}{blue:02x}"]


@dataclass(frozen=True)
class Boxes:
    """Of the frame of that stamp."""

    stamp_ns: int
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Area:
    """Where the road is in the frame of that stamp: a mask (h,w) of 0 and 255, of any size."""

    stamp_ns: int
    mask: Pixels = field(repr=False)

    @functools.cached_property
    def png(self) -> bytes:
        """The tint as a transparent picture, for a page to lay over the frame."""
        tint = np.empty((*self.mask.shape, 4), np.uint8)
        tint[..., :3] = ROAD_COLOUR
        tint[..., 3] = self.mask // 255 * round(255 * _ROAD_SHARE)
        return bytes(cv2.imencode(".png", tint)[1])


def read_boxes(markers: Iterable[Any]) -> Boxes | None:
    """Boxes of `visualization_msgs/Marker`s: each line strip that is to be added is one. None where
    there is no marker at all, and so no stamp."""
    stamp = None
    boxes: list[Box] = []
    for marker in markers:
        stamp = marker.header.stamp
        is_box = marker.action == _ADD and marker.type == _LINE_STRIP and len(marker.points) > 1
        if is_box and len(boxes) < _MOST_BOXES:
            boxes.append(_read_box(marker))
    if stamp is None:
        return None
    return Boxes(stamp.sec * 10**9 + stamp.nanosec, tuple(boxes))


def read_area(labels: ImageView, road: int) -> Area:
    """The drivable area of a label image; MalformedMessage, or UnsupportedFrame where it is not
    mono8."""
    check_image(labels)
    if labels.encoding != "mono8":
        raise UnsupportedFrame(f"labels come as {labels.encoding!r}, mono8 is due")
    classes = view_pixels(labels)
    height, width = classes.shape
    if width > _WIDEST_MASK:
        size = _WIDEST_MASK, max(1, round(height * _WIDEST_MASK / width))
        classes = np.asarray(cv2.resize(classes, size, interpolation=cv2.INTER_NEAREST))
    mask = np.where(classes == road, np.uint8(255), np.uint8(0))
    return Area(labels.sec * 10**9 + labels.nanosec, mask)


def tint_road(picture: Pixels, area: Area) -> None:
    """Lay the colour of the road over BGR (H,W,3), in place."""
    size = picture.shape[1], picture.shape[0]
    mask = cv2.resize(area.mask, size, interpolation=cv2.INTER_LINEAR)
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return
    part = picture[rows[0] : rows[-1] + 1]
    tinted = cv2.addWeighted(part, 1 - _ROAD_SHARE, np.full_like(part, ROAD_COLOUR), _ROAD_SHARE, 0)
    cv2.copyTo(tinted, (mask[rows[0] : rows[-1] + 1] > 127).astype(np.uint8), part)


def draw_boxes(picture: Pixels, boxes: Iterable[Box], scale: float) -> None:
    """Draw on BGR (H,W,3) that is ``scale`` times the camera's image, in place."""
    size = max(14, picture.shape[0] // 36)
    for box in boxes:
        left, top, right, bottom = (
            round(side * scale) for side in (box.left, box.top, box.right, box.bottom)
        )
        cv2.rectangle(picture, (left, top), (right, bottom), box.colour, 2, cv2.LINE_AA)
        if box.text:
            _draw_tag(picture, box, (left, top), size)


def _draw_tag(picture: Pixels, box: Box, corner: tuple[int, int], size: int) -> None:
    height, width = size + 8, text_width(box.text, size, bold=True) + 12
    left = max(0, min(corner[0], picture.shape[1] - width))
    top = max(0, corner[1] - height)
    cv2.rectangle(picture, (left, top), (left + width, top + height), box.colour, cv2.FILLED)
    bright = 0.114 * box.colour[0] + 0.587 * box.colour[1] + 0.299 * box.colour[2] > 140
    ink: Colour = (20, 20, 20) if bright else (250, 250, 250)
    place = left + 6, baseline(top, height, size)
    draw_text(picture, box.text, place, size, ink, bold=True)


def _read_box(marker: Any) -> Box:
    across = [point.x for point in marker.points]
    down = [point.y for point in marker.points]
    colour = marker.color
    shades = tuple(round(255 * min(1.0, max(0.0, c))) for c in (colour.b, colour.g, colour.r))
    blue, green, red = shades if any(shades) else _BOX_COLOUR
    text = marker.text[:40]
    return Box(min(across), min(down), max(across), max(down), text, (blue, green, red))
