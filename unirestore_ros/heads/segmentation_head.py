"""`segmentation_head`: features to labels. An example of a consumer: copy it, change the rest.

| topic | type | what |
|---|---|---|
| unirestore/segmentation/features | in, Image 32FC<c> | subscribed while somebody subscribes here |
| unirestore/status, unirestore/camera_info | in | the size of the camera's image |
| ~/labels | Image mono8 | the class of each pixel, an index into the bundle's class names |
| ~/image | Image rgb8 | the same, in CamVid's colours |

Both have the size of the camera's image (`full_size`), or that of the feature map, and the header
of the frame.
"""

from __future__ import annotations

import dataclasses
import sys

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from unirestore_ros.heads.head_node import Array, HeadNode, HeadParameters, run_head
from unirestore_ros.msgs.encodings import image_message
from unirestore_ros.msgs.parameter_struct import Change, parameter
from unirestore_ros.tasks import OTHER_COLOUR, SEGMENTATION_COLOURS

NAME = "segmentation_head"


@dataclasses.dataclass(frozen=True)
class Parameters(HeadParameters):
    """The values at one moment."""

    full_size: bool = parameter(
        True,
        "Labels of the camera image's size, logits enlarged; off: of the feature map's size",
        Change.AT_ONCE,
    )


class SegmentationHead(HeadNode):
    """Publishes the likeliest class of each pixel."""

    def __init__(self) -> None:
        super().__init__(NAME, "segmentation", Parameters())
        self._labels = self.output(Image, "labels")
        self._image = self.output(Image, "image")
        self._colours = palette(self.head.classes)

    def _enlarged_size(self, features: Image) -> tuple[int, int] | None:
        """Size of the whole map in pixels of the image, over which its last row and column may
        reach; None for labels of the map's own size."""
        if not self.settings.full_size:
            return None
        across, down = self.frame_sizes(features).feature_pitch(self.head.manifest.stride)
        return round(features.width * across), round(features.height * down)

    def on_features(self, message: Image, outputs: dict[str, Array]) -> None:
        labels = likeliest_classes(outputs["logits"], self._enlarged_size(message))
        if self.settings.full_size:
            width, height = self.frame_sizes(message).frame
            labels = np.ascontiguousarray(labels[:height, :width])
        if self._labels.get_subscription_count():
            answer = image_message(labels, "mono8")
            answer.header = message.header
            self._labels.publish(answer)
        if self._image.get_subscription_count():
            answer = image_message(self._colours[labels], "rgb8")
            answer.header = message.header
            self._image.publish(answer)


def likeliest_classes(logits: Array, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Return the class (H, W) uint8 with the largest of the logits (h, w, K) float32.

    ``size``: width and height that the logits are enlarged to; None: their own. One class at a time
    is enlarged, so memory is three planes however many classes there are.
    """
    width, height = size or (logits.shape[1], logits.shape[0])
    labels = np.zeros((height, width), np.uint8)
    best = cv2.resize(logits[..., 0], (width, height))
    for number in range(1, logits.shape[2]):
        plane = cv2.resize(logits[..., number], (width, height))
        labels[plane > best] = number
        np.maximum(best, plane, out=best)
    return labels


def palette(classes: tuple[str, ...]) -> NDArray[np.uint8]:
    """Return the colours of the classes, RGB (K, 3) uint8."""
    return np.array([SEGMENTATION_COLOURS.get(name, OTHER_COLOUR) for name in classes], np.uint8)


def main(argv: list[str] | None = None) -> int:
    return run_head(SegmentationHead, NAME, argv)


if __name__ == "__main__":
    sys.exit(main())
