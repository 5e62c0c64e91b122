"""A feature map out of its message, through cv_bridge where a sound one is installed."""

from __future__ import annotations

import array
import functools
import re
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

# What a cv_bridge says that does not fit its NumPy or OpenCV (PyPI's is ROS 1's).
_BRIDGE_ERRORS = (ImportError, AttributeError, KeyError, TypeError, ValueError, cv2.error)
_ENCODING = re.compile(r"32FC([1-9]\d{0,3})")


def read_features(message: Image) -> NDArray[np.float32]:
    """``32FC<c>`` -> (h, w, c) float32, contiguous; ValueError for what is no feature map."""
    shape = feature_shape(message)
    bridge = sound_bridge()
    features = bridge.imgmsg_to_cv2(message) if bridge else view_features(message)
    return np.ascontiguousarray(features, np.float32).reshape(shape)


def feature_shape(message: Image) -> tuple[int, int, int]:
    """(h, w, c) of a message; ValueError where it is no feature map, or cut short."""
    found = _ENCODING.fullmatch(message.encoding)
    if found is None:
        raise ValueError(f"encoding {message.encoding!r} is not that of a feature map, 32FC<c>")
    channels = int(found[1])
    least = 4 * channels * message.width
    if message.step < least or len(message.data) < message.step * message.height:
        raise ValueError(
            f"{len(message.data)} bytes with a step of {message.step} are no"
            f" {message.width}x{message.height} {message.encoding}"
        )
    return message.height, message.width, channels


def view_features(message: Image) -> NDArray[np.float32]:
    """The message's own memory as (h, w, c), padding of its rows left out; no copy."""
    height, width, channels = feature_shape(message)
    kind = np.dtype(np.float32).newbyteorder(">" if message.is_bigendian else "<")
    strides = (message.step, 4 * channels, 4)
    return np.ndarray((height, width, channels), kind, message.data, 0, strides)


@functools.cache
def sound_bridge() -> Any | None:
    """A `CvBridge` that reads a padded feature map rightly, else None."""
    try:
        from cv_bridge import CvBridge

        bridge = CvBridge()
        read = bridge.imgmsg_to_cv2(_padded_map())
    except _BRIDGE_ERRORS:
        return None
    return bridge if np.array_equal(read, view_features(_padded_map())) else None


def _padded_map() -> Image:
    """2x3 cells of 5 channels, and 4 bytes of padding after each row."""
    rows = np.zeros((2, 3 * 5 + 1), np.float32)
    rows[:, :-1] = np.arange(30).reshape(2, 15)
    message = Image(height=2, width=3, encoding="32FC5", step=rows.shape[1] * 4)
    message.data = array.array("B", rows.tobytes())
    return message
