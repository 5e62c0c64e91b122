"""Detections and the drivable area of a frame: read from messages, drawn on images."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from unirestore_ros.display.lettering import Colour, baseline, draw_text, text_width
from unirestore_ros.msgs.cdr import ImageView, UnsupportedFrame
from unirestore_ros.msgs.encodings import Pixels, check_image, view_pixels

ROAD_COLOUR: Colour = (150, 190, 40)
_ROAD_OPACITY = 0.35
_BOX_COLOUR: Colour = (64, 200, 255)
_MAX_BOXES = 100
_MAX_TEXT = 40
# Pixels. No camera's image reaches so far, and OpenCV draws this far without an error.
_FARTHEST = 32768.0
_LINE_STRIP, _ADD = 4, 0  # visualization_msgs/Marker
_MAX_MASK_WIDTH = 320


@dataclass(frozen=True)
class Box:
    """A detection; corners in pixels of the camera's image."""

    left: float
    top: float
    right: float
    bottom: float
    text: str
    colour: Colour

    def as_list(self) -> list[object]:
        """Convert for JSON: corners, text, colour as in CSS."""
        blue, green, red = self.colour
        corners = [round(side, 1) for side in (self.left, self.top, self.right, self.bottom)]
        return [*corners, self.text, f"#{red:02x}{green:02x}{blue:02x}"]


@dataclass(frozen=True)
class Boxes:
    """The detections in the frame of that stamp."""

    stamp_ns: int
    boxes: tuple[Box, ...]
    refused: int = 0
    """How many were left out: their corners are not finite, or far outside of any image."""


@dataclass(frozen=True)
class Area:
    """The drivable area in the frame of that stamp: a mask (h,w) uint8 of 0 and 255, any size."""

    stamp_ns: int
    mask: Pixels = field(repr=False)

    @functools.cached_property
    def png(self) -> bytes:
        """The tint as a transparent PNG, which the page lays over the frame."""
        tint = np.empty((*self.mask.shape, 4), np.uint8)
        tint[..., :3] = ROAD_COLOUR
        tint[..., 3] = self.mask // 255 * round(255 * _ROAD_OPACITY)
        return bytes(cv2.imencode(".png", tint)[1])


def read_boxes(markers: Iterable[Any]) -> Boxes | None:
    """Read `visualization_msgs/Marker`s: each line strip that is added is a box.

    None where there is no marker at all, and so no stamp.
    """
    stamp = None
    boxes: list[Box] = []
    refused = 0
    for marker in markers:
        stamp = marker.header.stamp
        is_box = marker.action == _ADD and marker.type == _LINE_STRIP and len(marker.points) > 1
        if not is_box or len(boxes) >= _MAX_BOXES:
            continue
        if (box := _read_box(marker)) is not None:
            boxes.append(box)
        else:
            refused += 1
    if stamp is None:
        return None
    return Boxes(stamp.sec * 10**9 + stamp.nanosec, tuple(boxes), refused)


def _read_box(marker: Any) -> Box | None:
    """Read one line strip; None where a corner cannot be a place in an image."""
    xs = [point.x for point in marker.points]
    ys = [point.y for point in marker.points]
    if not all(-_FARTHEST <= side <= _FARTHEST for side in (*xs, *ys)):  # false for NaN too
        return None
    colour = marker.color
    levels = [_level(share) for share in (colour.b, colour.g, colour.r)]
    blue, green, red = levels if any(levels) else _BOX_COLOUR
    text = marker.text[:_MAX_TEXT]
    return Box(min(xs), min(ys), max(xs), max(ys), text, (blue, green, red))


def _level(share: float) -> int:
    """Convert a colour's share, from 0 to 1, to a level; 0 where it is not a number."""
    return 0 if math.isnan(share) else round(255 * min(1.0, max(0.0, share)))


def read_area(labels: ImageView, road: int) -> Area:
    """Read the pixels of class ``road`` in a label image, at a width of at most 320.

    Raises MalformedMessage, or UnsupportedFrame where the image is not mono8.
    """
    check_image(labels)
    if labels.encoding != "mono8":
        raise UnsupportedFrame(f"labels come as {labels.encoding!r}, mono8 is due")
    classes = view_pixels(labels)
    height, width = classes.shape
    if width > _MAX_MASK_WIDTH:
        size = _MAX_MASK_WIDTH, max(1, round(height * _MAX_MASK_WIDTH / width))
        classes = np.asarray(cv2.resize(classes, size, interpolation=cv2.INTER_NEAREST))
    mask = np.where(classes == road, np.uint8(255), np.uint8(0))
    return Area(labels.sec * 10**9 + labels.nanosec, mask)


def tint_road(image: Pixels, area: Area) -> None:
    """Tint the drivable area of BGR (H,W,3) uint8, in place."""
    size = image.shape[1], image.shape[0]
    mask = cv2.resize(area.mask, size, interpolation=cv2.INTER_LINEAR)
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return
    # The road fills the lower part: blending only its rows saves about half of the time.
    part = image[rows[0] : rows[-1] + 1]
    colour = np.full_like(part, ROAD_COLOUR)
    tinted = cv2.addWeighted(part, 1 - _ROAD_OPACITY, colour, _ROAD_OPACITY, 0)
    cv2.copyTo(tinted, (mask[rows[0] : rows[-1] + 1] > 127).astype(np.uint8), part)


def draw_boxes(image: Pixels, boxes: Iterable[Box], scale: float) -> None:
    """Draw boxes on BGR (H,W,3) uint8 that is ``scale`` times the camera's image, in place."""
    size = max(14, image.shape[0] // 36)
    for box in boxes:
        left, top, right, bottom = (
            round(side * scale) for side in (box.left, box.top, box.right, box.bottom)
        )
        cv2.rectangle(image, (left, top), (right, bottom), box.colour, 2, cv2.LINE_AA)
        if box.text:
            _draw_label(image, box, (left, top), size)


def _draw_label(image: Pixels, box: Box, corner: tuple[int, int], size: int) -> None:
    """Draw the text above the box, moved inside the image where it would leave it."""
    height, width = size + 8, text_width(box.text, size, bold=True) + 12
    left = max(0, min(corner[0], image.shape[1] - width))
    top = max(0, corner[1] - height)
    cv2.rectangle(image, (left, top), (left + width, top + height), box.colour, cv2.FILLED)
    bright = 0.114 * box.colour[0] + 0.587 * box.colour[1] + 0.299 * box.colour[2] > 140
    ink: Colour = (20, 20, 20) if bright else (250, 250, 250)
    draw_text(image, box.text, (left + 6, baseline(top, height, size)), size, ink, bold=True)
