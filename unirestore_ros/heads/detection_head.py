"""`detection_head`: features to boxes. An example of a consumer: copy it, change the rest.

| topic | type | what |
|---|---|---|
| unirestore/detection/features | in, Image 32FC<c> | subscribed while somebody listens |
| unirestore/image | in, Image | subscribed while somebody listens to ~/image |
| ~/markers | MarkerArray | a LINE_STRIP a box, its corners in pixels of the camera's image |
| ~/detections | vision_msgs/Detection2DArray | the same, where that package is installed |
| ~/image | Image bgr8 | boxes drawn on the driver's picture, or on the features (`background`) |

Each has the header of the frame, also where nothing was found in it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import OrderedDict

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from visualization_msgs.msg import MarkerArray

from unirestore_ros.heads.detections import (
    Detection,
    detections_of,
    draw,
    markers_of,
    vision_detections,
    vision_messages,
)
from unirestore_ros.heads.features import read_features
from unirestore_ros.heads.head_node import Array, HeadNode, HeadParameters, run_head
from unirestore_ros.msgs.cdr import MalformedMessage, UnsupportedFrame
from unirestore_ros.msgs.encodings import check_image, image_message, to_bgr
from unirestore_ros.msgs.parameter_struct import Change, parameter

NAME = "detection_head"
_WAITING = 4  # frames whose picture and boxes have not met yet


@dataclasses.dataclass(frozen=True)
class Parameters(HeadParameters):
    """Values of one moment."""

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


class DetectionHead(HeadNode):
    """Maps of centres and boxes -> a list of boxes."""

    def __init__(self) -> None:
        super().__init__(NAME, "detection", Parameters())
        self._markers = self.output(MarkerArray, "markers")
        self._image = self.output(Image, "image")
        self._vision = vision_messages()
        self._detections = self._vision and self.output(self._vision.Detection2DArray, "detections")
        self._picture = self.input("unirestore/image", self._on_picture)
        self._pictures: OrderedDict[int, Image] = OrderedDict()
        self._found: OrderedDict[int, list[Detection]] = OrderedDict()

    def look(self) -> None:
        super().look()
        wanted = self._image.get_subscription_count() > 0
        self._picture.update(wanted and self.settings.background == "picture")

    def on_features(self, message: Image, outputs: dict[str, Array]) -> None:
        size, least = self.head.manifest.input_size, self.settings.least_score / 100
        found = detections_of(outputs["scores"], outputs["boxes"], self.head.classes, size, least)
        self._markers.publish(markers_of(found, message.header))
        if self._vision and self._detections and self._detections.get_subscription_count():
            self._detections.publish(vision_detections(self._vision, found, message.header))
        if self.settings.background == "picture":
            _keep(self._found, _stamp(message), found)
            self._draw_where_both_are(_stamp(message))
        elif self._image.get_subscription_count():
            self._publish_image(activation(read_features(message), size), found, message)

    def _on_picture(self, message: Image) -> None:
        _keep(self._pictures, _stamp(message), message)
        self._draw_where_both_are(_stamp(message))

    def _draw_where_both_are(self, stamp: int) -> None:
        """Picture and features of a frame come in either order."""
        if stamp not in self._pictures or stamp not in self._found:
            return
        message, found = self._pictures.pop(stamp), self._found.pop(stamp)
        try:
            check_image(message)
        except (MalformedMessage, UnsupportedFrame) as error:
            self.get_logger().error(f"{self._picture.topic}: {error}", throttle_duration_sec=5.0)
            return
        picture = np.empty((message.height, message.width, 3), np.uint8)
        picture[:] = to_bgr(message, picture)
        self._publish_image(picture, found, message)

    def _publish_image(
        self, picture: NDArray[np.uint8], found: list[Detection], message: Image
    ) -> None:
        draw(picture, found)
        answer = image_message(picture, "bgr8")
        answer.header = message.header
        self._image.publish(answer)


def _stamp(message: Image) -> int:
    return int(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)


def _keep(waiting: OrderedDict, stamp: int, item: object) -> None:
    """The newest few: what never meets its other half goes."""
    waiting[stamp] = item
    while len(waiting) > _WAITING:
        waiting.popitem(last=False)


def activation(features: Array, size: tuple[int, int]) -> NDArray[np.uint8]:
    """How strong each cell is, as BGR (H, W, 3): the norm over channels, from its 1st to its 99th
    percentile."""
    strength = np.linalg.norm(features, axis=2)
    low, high = np.percentile(strength, (1, 99))
    levels = np.clip((strength - low) / max(high - low, 1e-9), 0, 1) * 255
    colours = cv2.applyColorMap(levels.astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    return np.asarray(cv2.resize(colours, size), np.uint8)


def main(argv: list[str] | None = None) -> int:
    return run_head(DetectionHead, NAME, argv)


if __name__ == "__main__":
    sys.exit(main())
