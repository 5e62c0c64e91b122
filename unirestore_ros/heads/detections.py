"""What a detection head's maps say: boxes in pixels, and the messages that carry them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import cv2
import numpy as np
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from unirestore_ros.display.lettering import draw_text
from unirestore_ros.tasks import DETECTION_COLOURS, OTHER_COLOUR

MOST = 100
"""Detections of one frame."""
_OVERLAP = 0.5
_LINE_WIDTH_PX = 2.0


class Detection(NamedTuple):
    """A box in pixels of the camera's image, its corners within it."""

    name: str
    score: float
    left: float
    top: float
    right: float
    bottom: float

    @property
    def words(self) -> str:
        return f"{self.name} {self.score:.2f}"

    @property
    def colour(self) -> tuple[int, int, int]:
        return DETECTION_COLOURS.get(self.name, OTHER_COLOUR)


def detections_of(
    scores: NDArray[np.float32],
    boxes: NDArray[np.float32],
    classes: Sequence[str],
    image_size: tuple[int, int],
    least_score: float,
) -> list[Detection]:
    """Scores (h, w, K), 0 but at centres, and boxes (h, w, 4) in cells -> the best first, at most
    ``MOST``, without those that mostly repeat a better one of their class."""
    height, width = scores.shape[:2]
    rows, columns, kinds = np.nonzero(scores >= max(least_score, 1e-6))
    found = scores[rows, columns, kinds]
    order = np.argsort(-found, kind="stable")[: 4 * MOST]
    limits = np.array([image_size[0], image_size[1]] * 2, np.float32)
    scale = limits / np.array([width, height] * 2, np.float32)
    corners: NDArray[np.float32] = np.clip(boxes[rows, columns][order] * scale, 0, limits)
    kept = _without_repeats(corners, found[order], kinds[order], least_score)
    return [
        Detection(classes[kinds[order][i]], float(found[order][i]), *map(float, corners[i]))
        for i in kept[:MOST]
    ]


def _without_repeats(
    corners: NDArray[np.float32],
    scores: NDArray[np.float32],
    kinds: NDArray[np.int64],
    least_score: float,
) -> list[int]:
    """Indices kept by non-maximum suppression within each class, the best first."""
    sizes = corners[:, 2:] - corners[:, :2]
    kept: list[int] = []
    for kind in np.unique(kinds):
        mine = np.flatnonzero((kinds == kind) & (sizes > 0).all(axis=1))
        rectangles = np.concatenate([corners[mine, :2], sizes[mine]], axis=1).tolist()
        chosen = cv2.dnn.NMSBoxes(rectangles, scores[mine].tolist(), least_score, _OVERLAP)
        kept += [int(mine[i]) for i in np.asarray(chosen, int).ravel()]
    return sorted(kept)


def markers_of(detections: Sequence[Detection], header: Header) -> MarkerArray:
    """One closed LINE_STRIP each, in pixels of the image (z = 0), after a marker that deletes those
    of the frame before."""
    array = MarkerArray()
    array.markers.append(Marker(header=header, action=Marker.DELETEALL))
    for number, found in enumerate(detections):
        red, green, blue = (value / 255 for value in found.colour)
        marker = Marker(header=header, ns=found.name, id=number, text=found.words)
        marker.type, marker.action = Marker.LINE_STRIP, Marker.ADD
        marker.pose.orientation.w = 1.0
        marker.scale.x = _LINE_WIDTH_PX
        marker.color = ColorRGBA(r=red, g=green, b=blue, a=1.0)
        xs = (found.left, found.right, found.right, found.left, found.left)
        ys = (found.top, found.top, found.bottom, found.bottom, found.top)
        marker.points = [Point(x=x, y=y, z=0.0) for x, y in zip(xs, ys, strict=True)]
        array.markers.append(marker)
    return array


def vision_messages() -> ModuleType | None:
    """``vision_msgs.msg`` where it is installed."""
    try:
        return importlib.import_module("vision_msgs.msg")
    except ModuleNotFoundError:
        return None


def vision_detections(kinds: ModuleType, found: Sequence[Detection], header: Header) -> Any:
    """A ``vision_msgs/Detection2DArray`` (version 4, of Humble and later)."""
    array = kinds.Detection2DArray(header=header)
    for one in found:
        detection = kinds.Detection2D(header=header)
        detection.bbox.center.position.x = (one.left + one.right) / 2
        detection.bbox.center.position.y = (one.top + one.bottom) / 2
        detection.bbox.size_x = one.right - one.left
        detection.bbox.size_y = one.bottom - one.top
        result = kinds.ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = one.name, one.score
        detection.results.append(result)
        array.detections.append(detection)
    return array


def draw(picture: NDArray[np.uint8], found: list[Detection]) -> None:
    """Boxes and their words, in place."""
    for one in found:
        corner = (round(one.left), round(one.top))
        colour = one.colour[::-1]
        cv2.rectangle(picture, corner, (round(one.right), round(one.bottom)), colour, 2)
        draw_text(picture, one.words, (corner[0], max(corner[1] - 4, 10)), 12, colour)
