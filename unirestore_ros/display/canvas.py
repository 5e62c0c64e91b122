"""Compose the image of the display's topics: the view, and a strip that says what is shown."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from unirestore_ros.display.lettering import Colour, baseline, draw_text, text_width
from unirestore_ros.display.overlay import Area, Box, draw_boxes, tint_road
from unirestore_ros.display.parameters import View
from unirestore_ros.display.selection import FrameStatus
from unirestore_ros.msgs.encodings import Pixels

COLOURS: dict[FrameStatus, Colour] = {
    FrameStatus.RESTORED: (92, 160, 40),
    FrameStatus.CAMERA: (20, 150, 240),
    FrameStatus.UNCONFIRMED: (20, 150, 240),
    FrameStatus.NO_PICTURE: (40, 40, 190),
    FrameStatus.STALE: (54, 54, 226),
    FrameStatus.WAITING: (110, 100, 92),
}
_WHITE: Colour = (245, 245, 245)
_GREY: Colour = (178, 172, 168)
_DARK: Colour = (24, 20, 17)
# Above this reduction, linear interpolation leaves out pixels and INTER_AREA is needed, which takes
# six times as long.
_MAX_LINEAR = 1.6


@dataclass(frozen=True)
class Scene:
    """What is to be composed. Images are BGR (H,W,3) uint8 of one size."""

    view: View
    status: FrameStatus
    reason: str
    image: Pixels | None
    """The driver's image; in the raw view the camera's."""
    camera: Pixels | None = None
    """The camera's image of the same frame, where the view shows both."""
    divider: float = 0.5
    """Where the split view divides, from 0 to 1."""
    age_ms: float | None = None
    """Since the camera took it; where that is unknown, since it arrived."""
    age_note: str = ""
    """Why the age is unknown; empty where it is known."""
    fps: float | None = None
    tasks: tuple[str, ...] = ()
    """Machine tasks that are being computed."""
    boxes: tuple[Box, ...] = ()
    area: Area | None = None


def compose(scene: Scene, size: tuple[int, int]) -> Pixels:
    """Return a new image, BGR (H,W,3) uint8; ``size``: width and height in pixels."""
    width, height = size
    canvas = _blank(width, height).copy()
    end = stage_height(height)
    stage = canvas[:end]
    if scene.image is None:
        _write_reason(stage, scene)
    elif scene.view is View.SIDE:
        middle = width // 2
        _draw_image(scene, scene.camera, stage[:, : middle - 1], "camera")
        _draw_image(scene, scene.image, stage[:, middle + 1 :], _image_name(scene.status))
    else:
        _draw_image(scene, scene.image, stage)
    if scene.image is not None and scene.status is FrameStatus.STALE:
        _mark_stale(stage, None if scene.age_note else scene.age_ms)
    _draw_strip(canvas[end:], scene)
    return canvas


def stage_height(height: int) -> int:
    """Return the height in pixels of the view above the strip, in an image of that height."""
    return height - max(36, height // 10)


class Place(NamedTuple):
    """Where an image lies on its stage, in pixels, and how many of these a pixel of it takes."""

    left: int
    top: int
    width: int
    height: int
    scale: float


def place(size: tuple[int, int], stage: tuple[int, int]) -> Place:
    """Place an image in the middle of its stage, as large as fits; ``size`` and ``stage``:
    (width, height) in pixels."""
    scale = min(stage[0] / size[0], stage[1] / size[1])
    width, height = (max(1, round(side * scale)) for side in size)
    return Place((stage[0] - width) // 2, (stage[1] - height) // 2, width, height, scale)


def _size(image: Pixels) -> tuple[int, int]:
    return image.shape[1], image.shape[0]


@functools.lru_cache(maxsize=2)
def _blank(width: int, height: int) -> Pixels:
    """Make a dark image to be copied, which takes a tenth of the time of filling one."""
    return np.full((height, width, 3), _DARK, np.uint8)


def _draw_image(scene: Scene, image: Pixels | None, stage: Pixels, name: str = "") -> None:
    """Draw an image in the middle of its stage, as large as fits, and the overlays on it."""
    if image is None:
        _write(stage, "no camera image", _GREY)
        return
    left, top, width, height, scale = place(_size(image), _size(stage))
    target = stage[top : top + height, left : left + width]
    is_split = scene.view is View.SPLIT
    divider = round(width * scene.divider) if is_split else 0
    if divider < width:
        _resize_columns(image, target, divider, width)
    if divider and scene.camera is not None:
        _resize_columns(scene.camera, target, 0, divider)
    elif divider:
        _write(target[:, :divider], "no camera image", _GREY)
    if scene.area is not None:
        tint_road(target, scene.area)
    draw_boxes(target, scene.boxes, scale)
    if is_split:
        cv2.line(target, (divider, 0), (divider, height), _DARK, 7)
        cv2.line(target, (divider, 0), (divider, height), _WHITE, 3)
        _draw_name(target, "camera", left=True)
        _draw_name(target, _image_name(scene.status), left=False)
    elif name:
        _draw_name(target, name, left=True)


def _resize_columns(image: Pixels, target: Pixels, begin: int, end: int) -> None:
    """Fill columns ``begin`` to ``end`` of the target with those of the resized image.

    Only the columns that are seen are resized, to the nearest pixel of the image.
    """
    height, width = target.shape[:2]
    if image.shape[:2] == (height, width):
        target[:, begin:end] = image[:, begin:end]
        return
    scale = image.shape[1] / width
    first = min(round(begin * scale), image.shape[1] - 1)  # a wider target rounds up to the edge
    part = image[:, first : max(first + 1, round(end * scale))]
    how = cv2.INTER_AREA if scale > _MAX_LINEAR else cv2.INTER_LINEAR
    target[:, begin:end] = cv2.resize(part, (end - begin, height), interpolation=how)


def _image_name(status: FrameStatus) -> str:
    names = {FrameStatus.RESTORED: "restored", FrameStatus.CAMERA: "camera, relayed"}
    return names.get(status, status.value)


def _mark_stale(stage: Pixels, age_ms: float | None) -> None:
    """Darken, frame in red and label it: nobody may take an old image for the road."""
    cv2.convertScaleAbs(stage, dst=stage, alpha=0.4)
    height, width = stage.shape[:2]
    cv2.rectangle(stage, (5, 5), (width - 6, height - 6), COLOURS[FrameStatus.STALE], 10)
    age = "" if age_ms is None else f"  {age_ms / 1e3:.1f} s old"
    _write(stage, f"STALE{age}", _WHITE, size=max(24, height // 9), bold=True)


def _write(
    stage: Pixels, text: str, colour: Colour, size: int | None = None, bold: bool = False
) -> None:
    """Write in the middle of the stage."""
    size = size or max(16, stage.shape[0] // 24)
    left = (stage.shape[1] - text_width(text, size, bold)) // 2
    foot = baseline(0, stage.shape[0], size)
    draw_text(stage, text, (max(0, left), foot), size, colour, bold)


def _write_reason(stage: Pixels, scene: Scene) -> None:
    """Write why there is nothing to see."""
    text = scene.reason or "no image yet"
    if scene.status is FrameStatus.NO_PICTURE:
        text = f"{scene.status.value}: {text}"
    size = max(16, stage.shape[0] // 24)
    _write(stage, _shortened(text, size, stage.shape[1] - 2 * size), _GREY)


def _draw_name(image: Pixels, name: str, left: bool) -> None:
    """Write a name into an upper corner, on a darkened patch so that it is legible on snow."""
    size = max(14, image.shape[0] // 30)
    width, height = text_width(name, size) + size, round(1.6 * size)
    x = 0 if left else max(0, image.shape[1] - width)
    patch = image[:height, x : x + width]
    patch[:] = cv2.addWeighted(patch, 0.35, np.full_like(patch, _DARK), 0.65, 0)
    draw_text(image, name, (x + size // 2, baseline(0, height, size)), size, _WHITE)


def _draw_strip(strip: Pixels, scene: Scene) -> None:
    """Write status, reason (or the computed tasks), rate and age."""
    height, width = strip.shape[:2]
    size, margin = round(height * 0.42), round(height * 0.35)
    small = round(size * 0.8)
    foot = baseline(0, height, size)
    status = scene.status.value.upper()
    pill = text_width(status, size, bold=True) + 2 * margin
    strip[:, :pill] = COLOURS[scene.status]
    draw_text(strip, status, (margin, foot), size, _WHITE, bold=True)
    fps = "-" if scene.fps is None else f"{scene.fps:.0f}"
    age = "- ms" if scene.age_ms is None else f"{scene.age_ms:.0f} ms"
    figures = f"{fps} fps   {'age unknown' if scene.age_note else age}"
    right = width - text_width(figures, size, bold=True) - margin
    draw_text(strip, figures, (right, foot), size, _WHITE, bold=True)
    is_restored = scene.status is FrameStatus.RESTORED
    text = "  ".join(scene.tasks) if is_restored else scene.reason
    text = "   ".join(filter(None, (scene.age_note, text)))
    text = _shortened(text, small, right - pill - 2 * margin)
    draw_text(strip, text, (pill + margin, baseline(0, height, small)), small, _GREY)


def _shortened(text: str, size: int, width: int) -> str:
    """Cut the text where it is wider than ``width`` pixels."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "...", size) > width:
        text = text[:-1]
    return text + "..." if text else ""
