"""Plant errors in restored frames, of which the guard must catch as many as it can."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Mask = NDArray[np.float32]
Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""

VISIBLE_RMS = 12.0
"""Least root mean square difference within an error's outline, in grey levels; below it there is
nothing that a driver would see."""
SIZES = ((12, 30), (24, 48))
"""Width and height of pasted content, at 480x360: a pedestrian some 25 m and 15 m away."""
_OBJECTS = (8, 9, 10)
"""CamVid's cars, pedestrians and cyclists."""
_PEOPLE = (9, 10)
_TRIES = 30
_BORDER = 8
"""Pixels around a removed object from which it is filled."""


@dataclass(frozen=True)
class Planted:
    kind: str
    image: Image
    box: Box | None
    """Where the error is; None: everywhere."""


@dataclass(frozen=True)
class Cutout:
    """A pedestrian or cyclist of a photograph, with its outline."""

    image: Image
    mask: Mask


def cutouts(images: Sequence[Path]) -> list[Cutout]:
    """People in photographs that have label maps beside them (CamVid's layout)."""
    found = []
    for path in images:
        photograph = read_rgb(path)
        for (x, y, w, h), mask in labelled_objects(path, _PEOPLE):
            if w <= 60 and h <= 110:
                found.append(Cutout(photograph[y : y + h, x : x + w], mask))
    return found


def labelled_objects(image: Path, classes: Sequence[int] = _OBJECTS) -> list[tuple[Box, Mask]]:
    """Objects of at least 12x30 pixels and at most a sixth of the image's width."""
    file = image.parent.parent / "labels" / f"{image.stem}.png"
    if not file.exists():
        return []
    labels = cast(Image, cv2.imread(str(file), cv2.IMREAD_GRAYSCALE))
    count, components, stats, _ = cv2.connectedComponentsWithStats(
        np.isin(labels, classes).astype(np.uint8)
    )
    found: list[tuple[Box, Mask]] = []
    for i in range(1, count):
        x, y, w, h, area = (int(value) for value in stats[i])
        if w >= 12 and h >= 30 and w <= labels.shape[1] // 6 and area > 0.4 * w * h:
            found.append(((x, y, w, h), (components[y : y + h, x : x + w] == i).astype(np.float32)))
    return found


def read_rgb(path: Path) -> Image:
    """(360,480,3) uint8 RGB."""
    image = cast(Image, cv2.imread(str(path)))
    image = cast(Image, cv2.resize(image, (480, 360), interpolation=cv2.INTER_AREA))
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8)


def plant_errors(
    restored: Image, others: Sequence[Image], people: Sequence[Cutout],
    objects: Sequence[tuple[Box, Mask]], rng: np.random.Generator,
) -> Iterator[Planted]:  # fmt: skip
    """One error of each kind, where a visible one is found. ``others``: restorations of other
    frames; ``objects``: what is in this one, by its labels."""
    height, width = restored.shape[:2]
    for w, h in SIZES:
        mask = _ellipse(w, h)
        for _ in range(_TRIES):
            (x, u), (y, v) = rng.integers(0, width - w, 2), rng.integers(0, height - h, 2)
            content = others[int(rng.integers(len(others)))][v : v + h, u : u + w]
            image = _blended(restored, content, (x, y, w, h), mask)
            if _is_visible(restored, image, (x, y, w, h), mask):
                yield Planted(f"pasted {w}x{h}", image, (x, y, w, h))
                break
    yield from _inserted(restored, people, rng)
    yield from _removed(restored, objects, rng)
    yield Planted("mirrored", np.ascontiguousarray(restored[:, ::-1]), None)
    yield Planted("another frame", others[int(rng.integers(len(others)))], None)
    yield Planted("broken", _broken(restored, rng), None)


def _inserted(
    restored: Image, people: Sequence[Cutout], rng: np.random.Generator
) -> Iterator[Planted]:
    height, width = restored.shape[:2]
    for _ in range(_TRIES):
        person = people[int(rng.integers(len(people)))]
        h, w = person.mask.shape
        box = (int(rng.integers(0, width - w)), int(rng.integers(height // 4, height - h)), w, h)
        image = _blended(restored, person.image, box, person.mask)
        if _is_visible(restored, image, box, person.mask):
            yield Planted("person inserted", image, box)
            return


def _removed(
    restored: Image, objects: Sequence[tuple[Box, Mask]], rng: np.random.Generator
) -> Iterator[Planted]:
    for i in rng.permutation(len(objects)):
        (x, y, w, h), mask = objects[i]
        top, left = min(y, _BORDER), min(x, _BORDER)
        around = restored[y - top : y + h + _BORDER, x - left : x + w + _BORDER]
        hole = np.zeros(around.shape[:2], np.uint8)
        hole[top : top + h, left : left + w] = mask > 0
        wider = cv2.dilate(hole, np.ones((5, 5), np.uint8))
        filled = cv2.inpaint(around, wider, 3, cv2.INPAINT_TELEA)
        image = restored.copy()
        image[y - top : y + h + _BORDER, x - left : x + w + _BORDER] = filled
        if _is_visible(restored, image, (x, y, w, h), mask):
            yield Planted("object removed", image, (x, y, w, h))
            return


def _broken(restored: Image, rng: np.random.Generator) -> Image:
    """What a faulty engine gives: one colour, noise, or an image far too bright or dark."""
    which = rng.integers(4)
    if which == 0:
        return np.full_like(restored, rng.integers(0, 256))
    if which == 1:
        return rng.integers(0, 256, restored.shape).astype(np.uint8)
    shifted = restored.astype(np.int16) + (200 if which == 2 else -200)
    return np.clip(shifted, 0, 255).astype(np.uint8)


def _ellipse(width: int, height: int) -> Mask:
    mask = np.zeros((height, width), np.float32)
    half = (width // 2, height // 2)
    cv2.ellipse(mask, half, half, 0, 0, 360, 1, -1)
    return mask


def _blended(restored: Image, content: Image, box: Box, mask: Mask) -> Image:
    x, y, w, h = box
    alpha = cv2.GaussianBlur(mask, (0, 0), 0.7)[..., None]
    image = restored.copy()
    mixed = image[y : y + h, x : x + w] * (1 - alpha) + content * alpha
    image[y : y + h, x : x + w] = np.rint(mixed).astype(np.uint8)
    return image


def _is_visible(before: Image, after: Image, box: Box, mask: Mask) -> bool:
    return visible_rms(before, after, box, mask) >= VISIBLE_RMS


def visible_rms(before: Image, after: Image, box: Box, mask: Mask) -> float:
    """Root mean square difference within an outline, in grey levels."""
    x, y, w, h = box
    inside = np.s_[y : y + h, x : x + w]
    difference = (after[inside].astype(np.float32) - before[inside]).mean(axis=2)[mask > 0.5]
    return float(np.sqrt(np.mean(difference * difference)))
