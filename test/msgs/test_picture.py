"""Pictures and features as the messages that leave."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from ros_station import image
from sensor_msgs.msg import CompressedImage, Image

from unirestore_ros.msgs.camera_frame import CameraFrame, read_frame
from unirestore_ros.msgs.image_conversion import ScratchImage
from unirestore_ros.msgs.picture import Picture, feature_message

HEIGHT, WIDTH = 16, 24


def smooth() -> np.ndarray:
    """RGB that JPEG keeps well."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([10 * x, 8 * y, 3 * x + 4 * y], axis=-1).astype(np.uint8)


def frame(encoding: str) -> CameraFrame:
    channels = {"mono8": 1, "bgra8": 4, "rgba8": 4}.get(encoding, 3)
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
    message = image(np.full(shape, 255, np.uint8), encoding, padding=5)
    message.header.frame_id = "camera"
    message.header.stamp.sec = 7
    return read_frame(serialize_message(message), False, 0.0, 0)


@pytest.mark.parametrize("encoding", ["bgr8", "rgb8", "bgra8", "rgba8", "mono8"])
def test_picture_and_its_jpeg(encoding: str) -> None:
    source = frame(encoding)
    picture = Picture(source)
    source.write_restored(smooth(), picture.pixels)
    raw = deserialize_message(picture.message.tobytes(), Image)
    assert (raw.header.stamp.sec, raw.header.frame_id) == (7, "camera")
    assert (raw.height, raw.width, raw.encoding) == (HEIGHT, WIDTH, encoding)
    assert raw.step == picture.pixels.nbytes // HEIGHT
    assert raw.data.tobytes() == picture.pixels.tobytes()
    jpeg = deserialize_message(picture.jpeg(95, ScratchImage()).tobytes(), CompressedImage)
    assert jpeg.header == raw.header and jpeg.format.startswith(f"{encoding}; jpeg compressed")
    read = cv2.imdecode(np.frombuffer(jpeg.data, np.uint8), cv2.IMREAD_COLOR)
    grey = cv2.cvtColor(cv2.cvtColor(smooth(), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2BGR)
    expected = grey if encoding == "mono8" else smooth()[..., ::-1]
    np.testing.assert_allclose(read, expected, atol=12)


def test_features() -> None:
    features = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    message = deserialize_message(feature_message(frame("bgr8"), features).tobytes(), Image)
    assert (message.encoding, message.height, message.width, message.step) == ("32FC5", 3, 4, 80)
    assert (message.header.stamp.sec, message.header.frame_id) == (7, "camera")
    read = np.frombuffer(message.data, np.float32).reshape(3, 4, 5)
    np.testing.assert_array_equal(read, features)
