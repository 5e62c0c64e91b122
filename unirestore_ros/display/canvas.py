"""The composed picture for window and topics: the view, and a strip that says what is seen."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from unirestore_ros.display.lettering import Colour, baseline, draw_text, text_width
from unirestore_ros.display.overlay import Area, Box, draw_boxes, tint_road
from unirestore_ros.display.view import Sign, View
from unirestore_ros.msgs.image_conversion import Pixels

COLOURS: dict[Sign, Colour] = {
    Sign.RESTORED: (92, 160, 40),
    Sign.CAMERA: (20, 150, 240),
    Sign.UNCONFIRMED: (20, 150, 240),
    Sign.STALE: (54, 54, 226),
    Sign.WAITING: (110, 100, 92),
}
_MOST_LINEAR = 1.6
_WHITE: Colour = (245, 245, 245)
_GREY: Colour = (178, 172, 168)
_DARK: Colour = (24, 20, 17)


@dataclass(frozen=True)
class Scene:
    """What there is to see at one moment. Pictures are BGR (H,W,3) of one size."""

    view: View
    sign: Sign
    reason: str
    picture: Pixels | None
    """The driver's; in the raw view the camera's."""
    camera: Pixels | None = None
    """The camera's of the same frame, where the view shows both."""
    divider: float = 0.5
    age_ms: float | None = None
    fps: float | None = None
    tasks: tuple[str, ...] = ()
    """Machine tasks that are being computed."""
    boxes: tuple[Box, ...] = ()
    area: Area | None = None


def compose(scene: Scene, size: tuple[int, int]) -> Pixels:
    """A new BGR picture of that (width, height)."""
    width, height = size
    canvas = _blank(width, height).copy()
    strip = _strip_height(height)
    place = canvas[: height - strip]
    if scene.picture is None:
        _say(place, scene.reason or "no picture yet", _GREY)
    else:
        _show(scene, scene.picture, place)
    _draw_strip(canvas[height - strip :], scene)
    return canvas


@functools.lru_cache(maxsize=2)
def _blank(width: int, height: int) -> Pixels:
    """To be copied, in a tenth of the time that it takes to fill."""
    return np.full((height, width, 3), _DARK, np.uint8)


def picture_span(picture: Pixels, size: tuple[int, int]) -> tuple[int, int]:
    """First and last column of a picture that is shown alone on a canvas of that size."""
    width, height = size
    scale = min(width / picture.shape[1], (height - _strip_height(height)) / picture.shape[0])
    shown = round(picture.shape[1] * scale)
    return (width - shown) // 2, (width + shown) // 2


def _strip_height(height: int) -> int:
    return max(36, height // 10)


def _show(scene: Scene, picture: Pixels, place: Pixels) -> None:
    if scene.view is View.SIDE:
        middle = place.shape[1] // 2
        _show_one(scene, scene.camera, place[:, : middle - 1], "camera")
        _show_one(scene, picture, place[:, middle + 1 :], _name(scene.sign))
    else:
        _show_one(scene, picture, place, "", split=scene.view is View.SPLIT)
    if scene.sign is Sign.STALE:
        _mark_stale(place, scene.age_ms)


def _show_one(
    scene: Scene, picture: Pixels | None, place: Pixels, name: str, split: bool = False
) -> None:
    """A picture in the middle of its place, as large as fits, with what is drawn over it."""
    if picture is None:
        _say(place, "no camera picture", _GREY)
        return
    target, scale = _fitted(picture, place)
    divided = round(target.shape[1] * scene.divider) if split else 0
    if divided < target.shape[1]:
        _resize_into(picture, target, divided, target.shape[1])
    if divided and scene.camera is not None:
        _resize_into(scene.camera, target, 0, divided)
    elif divided:
        _say(target[:, :divided], "no camera picture", _GREY)
    if scene.area is not None:
        tint_road(target, scene.area)
    draw_boxes(target, scene.boxes, scale)
    if split:
        cv2.line(target, (divided, 0), (divided, target.shape[0]), _DARK, 7)
        cv2.line(target, (divided, 0), (divided, target.shape[0]), _WHITE, 3)
        _tag(target, "camera", left=True)
        _tag(target, _name(scene.sign), left=False)
    elif name:
        _tag(target, name, left=True)


def _fitted(picture: Pixels, place: Pixels) -> tuple[Pixels, float]:
    """The part of the place that the picture takes, and the scale."""
    scale = min(place.shape[1] / picture.shape[1], place.shape[0] / picture.shape[0])
    width = max(1, round(picture.shape[1] * scale))
    height = max(1, round(picture.shape[0] * scale))
    left, top = (place.shape[1] - width) // 2, (place.shape[0] - height) // 2
    return place[top : top + height, left : left + width], scale


def _resize_into(picture: Pixels, target: Pixels, begin: int, end: int) -> None:
    """Columns ``begin`` to ``end`` of the picture as it would fill the target."""
    height, width = target.shape[:2]
    if picture.shape[:2] == (height, width):
        target[:, begin:end] = picture[:, begin:end]
        return
    # Only the columns that are seen, to the nearest. INTER_AREA takes six times as long, and is
    # needed only where pixels would be left out.
    scale = picture.shape[1] / width
    part = picture[:, round(begin * scale) : max(round(begin * scale) + 1, round(end * scale))]
    how = cv2.INTER_AREA if scale > _MOST_LINEAR else cv2.INTER_LINEAR
    target[:, begin:end] = cv2.resize(part, (end - begin, height), interpolation=how)


def _name(sign: Sign) -> str:
    """What the driver's picture is called in its corner; a stale one is what it may."""
    names = {Sign.RESTORED: "restored", Sign.CAMERA: "camera, passed on"}
    return names.get(sign, sign.value)


def _mark_stale(place: Pixels, age_ms: float | None) -> None:
    """Nobody may take an old picture for the road: dark, framed in red, and said in words."""
    cv2.convertScaleAbs(place, dst=place, alpha=0.4)
    red = COLOURS[Sign.STALE]
    height, width = place.shape[:2]
    cv2.rectangle(place, (5, 5), (width - 6, height - 6), red, 10)
    age = "" if age_ms is None else f"  {age_ms / 1e3:.1f} s old"
    _say(place, f"STALE{age}", _WHITE, size=max(24, height // 9), bold=True)


def _say(
    place: Pixels, words: str, colour: Colour, size: int | None = None, bold: bool = False
) -> None:
    size = size or max(16, place.shape[0] // 24)
    left = (place.shape[1] - text_width(words, size, bold)) // 2
    foot = baseline(0, place.shape[0], size)
    draw_text(place, words, (max(0, left), foot), size, colour, bold)


def _tag(picture: Pixels, words: str, left: bool) -> None:
    """A name in an upper corner, on a darkened patch so that it is read on snow too."""
    size = max(14, picture.shape[0] // 30)
    width, height = text_width(words, size) + size, round(1.6 * size)
    x = 0 if left else max(0, picture.shape[1] - width)
    patch = picture[:height, x : x + width]
    patch[:] = cv2.addWeighted(patch, 0.35, np.full_like(patch, _DARK), 0.65, 0)
    draw_text(picture, words, (x + size // 2, baseline(0, height, size)), size, _WHITE)


def _draw_strip(strip: Pixels, scene: Scene) -> None:
    height, width = strip.shape[:2]
    size, margin = round(height * 0.42), round(height * 0.35)
    foot = baseline(0, height, size)
    word = scene.sign.value.upper()
    pill = text_width(word, size, bold=True) + 2 * margin
    strip[:, :pill] = COLOURS[scene.sign]
    draw_text(strip, word, (margin, foot), size, _WHITE, bold=True)
    figures = _figures(scene)
    right = width - text_width(figures, size, bold=True) - margin
    draw_text(strip, figures, (right, foot), size, _WHITE, bold=True)
    small = round(size * 0.8)
    said = _fitting(_words(scene), small, right - pill - 2 * margin)
    draw_text(strip, said, (pill + margin, baseline(0, height, small)), small, _GREY)


def _figures(scene: Scene) -> str:
    fps = "-" if scene.fps is None else f"{scene.fps:.0f}"
    age = "-" if scene.age_ms is None else f"{scene.age_ms:.0f}"
    return f"{fps} fps   {age} ms"


def _words(scene: Scene) -> str:
    """Why it is not the restored picture; else what else is computed."""
    if scene.sign is Sign.RESTORED:
        return "  ".join(scene.tasks)
    return scene.reason


def _fitting(words: str, size: int, width: int) -> str:
    """The words, cut where they are too wide."""
    if text_width(words, size) <= width:
        return words
    while words and text_width(words + "...", size) > width:
        words = words[:-1]
    return words + "..." if words else ""
