"""`detection_head`: features to boxes. An example of a consumer: copy it, change the rest.

| topic | type | what |
|---|---|---|
| unirestore/detection/features | in, Image 32FC<c> | subscribed while somebody subscribes here |
| unirestore/image | in, Image | subscribed while somebody subscribes to ~/image |
| unirestore/status, unirestore/camera_info | in | the size of the camera's image |
| ~/markers | MarkerArray | a LINE_STRIP a box, its corners in pixels of the camera's image |
| ~/detections | vision_msgs/Detection2DArray | the same, where that package is installed |
| ~/image | Image bgr8 | boxes drawn on the driver's image, or on the features (`background`) |

Each has the header of the frame, also where nothing was found in it.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections import OrderedDict
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import cv2
import numpy as np
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from unirestore_ros.display.lettering import draw_text
from unirestore_ros.heads.head_node import (
    Array,
    HeadNode,
    HeadParameters,
    keep,
    read_features,
    run_head,
    stamp_of,
)
from unirestore_ros.msgs.cdr import MalformedMessage, UnsupportedFrame
from unirestore_ros.msgs.encodings import check_image, image_message, to_bgr
from unirestore_ros.msgs.parameter_struct import Change, parameter
from unirestore_ros.tasks import DETECTION_COLOURS, OTHER_COLOUR

NAME = "detection_head"
MAX_DETECTIONS = 100
_MAX_OVERLAP = 0.5  # intersection over union of two boxes of one class
_LINE_WIDTH_PX = 2.0


@dataclasses.dataclass(frozen=True)
class Parameters(HeadParameters):
    """The values at one moment."""

    least_score: int = parameter(
        30, "Boxes under this score are left out", Change.AT_ONCE, unit="%", lowest=1, highest=100
    )
    background: str = parameter(
        "picture",
        "What ~/image is drawn on: the driver's picture, which costs the node its decoder, or how"
        " strong the features are",
        Change.AT_ONCE,
        choices=("picture", "features"),
    )


class Detection(NamedTuple):
    """A box in pixels of the camera's image, its corners within it."""

    name: str
    score: float
    left: float
    top: float
    right: float
    bottom: float

    @property
    def text(self) -> str:
        return f"{self.name} {self.score:.2f}"

    @property
    def colour(self) -> tuple[int, int, int]:
        """RGB."""
        return DETECTION_COLOURS.get(self.name, OTHER_COLOUR)


class DetectionHead(HeadNode):
    """Publishes the boxes of each frame."""

    def __init__(self) -> None:
        super().__init__(NAME, "detection", Parameters())
        self._markers = self.output(MarkerArray, "markers")
        self._image = self.output(Image, "image")
        self._vision = vision_messages()
        self._detections = self._vision and self.output(self._vision.Detection2DArray, "detections")
        self._driver_image = self.input(self.beside_features("image"), self._on_image)
        # By stamp: image and features of a frame arrive in either order.
        self._images: OrderedDict[int, Image] = OrderedDict()
        self._found: OrderedDict[int, list[Detection]] = OrderedDict()

    def update_subscriptions(self) -> None:
        super().update_subscriptions()
        wanted = self._image.get_subscription_count() > 0
        self._driver_image.update(wanted and self.settings.background == "picture")

    def on_features(self, message: Image, outputs: dict[str, Array]) -> None:
        sizes, least = self.frame_sizes(message), self.settings.least_score / 100
        size, pitch = sizes.frame, sizes.feature_pitch(self.head.manifest.stride)
        scores, boxes = outputs["scores"], outputs["boxes"]
        found = decode_detections(scores, boxes, self.head.classes, size, least, pitch)
        self._markers.publish(make_markers(found, message.header))
        if self._vision and self._detections and self._detections.get_subscription_count():
            self._detections.publish(make_vision_detections(self._vision, found, message.header))
        if self.settings.background == "picture":
            keep(self._found, stamp_of(message), found)
            self._draw_matched(stamp_of(message))
        elif self._image.get_subscription_count():
            self._publish_image(activation(read_features(message), size), found, message)

    def _on_image(self, message: Image) -> None:
        keep(self._images, stamp_of(message), message)
        self._draw_matched(stamp_of(message))

    def _draw_matched(self, stamp: int) -> None:
        """Draw once both the image and the boxes of a frame are there."""
        if stamp not in self._images or stamp not in self._found:
            return
        message, found = self._images.pop(stamp), self._found.pop(stamp)
        try:
            check_image(message)
        except (MalformedMessage, UnsupportedFrame) as error:
            topic = self._driver_image.topic
            self.get_logger().error(f"{topic}: {error}", throttle_duration_sec=5.0)
            return
        image = np.empty((message.height, message.width, 3), np.uint8)
        image[:] = to_bgr(message, image)
        self._publish_image(image, found, message)

    def _publish_image(
        self, image: NDArray[np.uint8], found: list[Detection], message: Image
    ) -> None:
        draw_detections(image, found)
        answer = image_message(image, "bgr8")
        answer.header = message.header
        self._image.publish(answer)


def decode_detections(
    scores: NDArray[np.float32],
    boxes: NDArray[np.float32],
    classes: Sequence[str],
    image_size: tuple[int, int],
    least_score: float,
    pitch: tuple[float, float] | None = None,
) -> list[Detection]:
    """Turn the head's outputs into boxes, best first, at most ``MAX_DETECTIONS``.

    ``scores`` (h, w, K), from 0 to 1 at objects' centres, 0 elsewhere; ``boxes`` (h, w, 4): left,
    top, right, bottom in cells; ``image_size``: width and height in pixels; ``pitch``: width and
    height of a cell in pixels, None where the map covers the image. Of boxes of one class
    that overlap, the best is kept.
    """
    height, width = scores.shape[:2]
    rows, columns, kinds = np.nonzero(scores >= max(least_score, 1e-6))
    found = scores[rows, columns, kinds]
    order = np.argsort(-found, kind="stable")[: 4 * MAX_DETECTIONS]
    limits = np.array([image_size[0], image_size[1]] * 2, np.float32)
    scale = np.array(pitch * 2 if pitch else limits / ([width, height] * 2), np.float32)
    corners = np.clip(boxes[rows, columns][order] * scale, 0, limits).astype(np.float32)
    found, kinds = found[order], kinds[order]
    sizes = corners[:, 2:] - corners[:, :2]
    kept: list[int] = []
    for kind in np.unique(kinds):
        same = np.flatnonzero((kinds == kind) & (sizes > 0).all(axis=1))
        rectangles = np.concatenate([corners[same, :2], sizes[same]], axis=1).tolist()
        chosen = cv2.dnn.NMSBoxes(rectangles, found[same].tolist(), least_score, _MAX_OVERLAP)
        kept += [int(same[i]) for i in np.asarray(chosen, int).ravel()]
    return [
        Detection(classes[kinds[i]], float(found[i]), *map(float, corners[i]))
        for i in sorted(kept)[:MAX_DETECTIONS]
    ]


def make_markers(detections: Sequence[Detection], header: Header) -> MarkerArray:
    """Make one closed LINE_STRIP a box, in pixels of the image (z = 0), after a marker that deletes
    those of the frame before."""
    array = MarkerArray()
    array.markers.append(Marker(header=header, action=Marker.DELETEALL))
    for number, one in enumerate(detections):
        red, green, blue = (value / 255 for value in one.colour)
        marker = Marker(header=header, ns=one.name, id=number, text=one.text)
        marker.type, marker.action = Marker.LINE_STRIP, Marker.ADD
        marker.pose.orientation.w = 1.0
        marker.scale.x = _LINE_WIDTH_PX
        marker.color = ColorRGBA(r=red, g=green, b=blue, a=1.0)
        xs = (one.left, one.right, one.right, one.left, one.left)
        ys = (one.top, one.top, one.bottom, one.bottom, one.top)
        marker.points = [Point(x=x, y=y, z=0.0) for x, y in zip(xs, ys, strict=True)]
        array.markers.append(marker)
    return array


def vision_messages() -> ModuleType | None:
    """Import ``vision_msgs.msg``; None where it is not installed."""
    try:
        return importlib.import_module("vision_msgs.msg")
    except ModuleNotFoundError:
        return None


def make_vision_detections(
    messages: ModuleType, detections: Sequence[Detection], header: Header
) -> Any:
    """Make a ``vision_msgs/Detection2DArray`` (version 4, of Humble and later)."""
    array = messages.Detection2DArray(header=header)
    for one in detections:
        detection = messages.Detection2D(header=header)
        detection.bbox.center.position.x = (one.left + one.right) / 2
        detection.bbox.center.position.y = (one.top + one.bottom) / 2
        detection.bbox.size_x = one.right - one.left
        detection.bbox.size_y = one.bottom - one.top
        result = messages.ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = one.name, one.score
        detection.results.append(result)
        array.detections.append(detection)
    return array


def draw_detections(image: NDArray[np.uint8], detections: Sequence[Detection]) -> None:
    """Draw boxes and their text on BGR (H, W, 3), in place."""
    for one in detections:
        corner = (round(one.left), round(one.top))
        colour = one.colour[::-1]
        cv2.rectangle(image, corner, (round(one.right), round(one.bottom)), colour, 2)
        draw_text(image, one.text, (corner[0], max(corner[1] - 4, 10)), 12, colour)


def activation(features: Array, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Show how strong each cell of features (h, w, c) is, as BGR (H, W, 3).

    That is the norm over channels, from its 1st to its 99th percentile; ``size``: W and H.
    """
    strength = np.linalg.norm(features, axis=2)
    low, high = np.percentile(strength, (1, 99))
    levels = np.clip((strength - low) / max(high - low, 1e-9), 0, 1) * 255
    colours = cv2.applyColorMap(levels.astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    return np.asarray(cv2.resize(colours, size), np.uint8)


def main(argv: list[str] | None = None) -> int:
    return run_head(DetectionHead, NAME, argv)


if __name__ == "__main__":
    sys.exit(main())
