"""Messages as arrays: a camera's in any encoding, the node's feature maps; image files."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np

from unirestore_ros.msgs import compressed
from unirestore_ros.msgs.encodings import ImageLike, check_image, to_bgr
from unirestore_ros.recordings.errors import MediaError

_FEATURES = re.compile(r"32FC(\d+)")


def bgr_of(message: ImageLike) -> np.ndarray:
    """(H, W, 3) uint8 BGR of a sensor_msgs/Image; ValueError says why it has none."""
    check_image(message)
    return to_bgr(message, np.empty((message.height, message.width, 3), np.uint8))


def decompressed(data: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 BGR of a CompressedImage's data; ValueError says why it has none."""
    compressed.compressed_size(data)
    return compressed.decode(data)


def features_of(message: ImageLike) -> np.ndarray:
    """(h, w, c) float32 of a feature map; ValueError for an encoding that is none."""
    found = _FEATURES.fullmatch(message.encoding)
    if found is None:
        raise ValueError(f"encoding {message.encoding!r} is not 32FC<channels>")
    shape = message.height, message.width, int(found[1])
    rows = np.frombuffer(message.data, np.float32).reshape(message.height, message.step // 4)
    return rows[:, : shape[1] * shape[2]].reshape(shape)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) uint8 BGR in the format of the path's suffix."""
    if not cv2.imwrite(str(path), picture):
        raise MediaError(f"{path} could not be written")
