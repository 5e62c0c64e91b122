"""Feature maps read from messages."""

from __future__ import annotations

import array

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from unirestore_ros.recordings.fitting import decode_features


def message(encoding: str, features: np.ndarray, padding: int = 0) -> bytes:
    height, width, channels = features.shape
    rows = np.zeros((height, width * channels + padding), np.float32)
    rows[:, : width * channels] = features.reshape(height, -1)
    step = rows.shape[1] * 4
    data = array.array("B", rows.tobytes())
    image = Image(height=height, width=width, encoding=encoding, step=step, data=data)
    return bytes(serialize_message(image))


@pytest.mark.parametrize("padding", [0, 3])
def test_features_come_back_row_by_row(padding: int) -> None:
    features = np.arange(2 * 3 * 5, dtype=np.float32).reshape(2, 3, 5)
    assert (decode_features(message("32FC5", features, padding)) == features).all()


def test_what_is_no_feature_map_is_refused() -> None:
    with pytest.raises(ValueError, match="'16UC1' is not 32FC<channels>"):
        decode_features(message("16UC1", np.zeros((1, 1, 1), np.float32)))
