"""What the drive yields: an image and the truth about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unirestore_ros.synthetic.noise import Array

# Values of a label pixel: places in SEGMENTATION_CLASSES.
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)

# category -> (label value, least width, least height): the rule of the CamVid boxes
CATEGORIES = {
    "car": (CAR, 6, 6),
    "pedestrian": (PEDESTRIAN, 5, 10),
    "bicyclist": (BICYCLIST, 5, 8),
    "sign": (SIGN, 5, 5),
}
LEAST_AREA = 80


@dataclass(frozen=True)
class Box:
    """Tight rectangle, in pixels, around what is visible of one thing."""

    category: str
    x: int
    y: int
    width: int
    height: int
    area: int


@dataclass(frozen=True)
class Frame:
    """One camera frame.

    image: (H,W,3) uint8 RGB; depth: (H,W) float32, metres along the optical axis, FAR_M in the sky;
    labels: (H,W) uint8, an index into tasks.SEGMENTATION_CLASSES.
    """

    image: Array
    depth: Array
    labels: Array
    boxes: tuple[Box, ...]


FAR_M = 1000.0


def boxes_of(instances: Array, labels: Array) -> tuple[Box, ...]:
    """Find the boxes of the things numbered in ``instances`` (H,W) int32, 0 where there is none.

    A thing with fewer than LEAST_AREA visible pixels, or a smaller box than its category's least,
    has no box.
    """
    boxed = np.isin(labels, [label for label, _, _ in CATEGORIES.values()])
    rows, columns = np.nonzero(boxed & (instances > 0))
    numbers, values = instances[rows, columns], labels[rows, columns]
    order = np.argsort(numbers, kind="stable")
    boxes = []
    for pixels in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
        if len(pixels) < LEAST_AREA:
            continue
        left, top = int(columns[pixels].min()), int(rows[pixels].min())
        width, height = int(columns[pixels].max()) + 1 - left, int(rows[pixels].max()) + 1 - top
        for category, (label, least_width, least_height) in CATEGORIES.items():
            if label == values[pixels[0]] and width >= least_width and height >= least_height:
                boxes.append(Box(category, left, top, width, height, len(pixels)))
    return tuple(boxes)
