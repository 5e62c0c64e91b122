"""The messages of a restored frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from ros_station import camera_info, image
from sensor_msgs.msg import CompressedImage, Image

from unirestore_ros.msgs.camera_frame import CameraFrame, FrameMessages, read_frame
from unirestore_ros.msgs.camera_info import InfoMismatch, scaled_to
from unirestore_ros.msgs.encodings import ENCODINGS

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
def test_image_and_its_jpeg(encoding: str) -> None:
    source = frame(encoding)
    picture = FrameMessages().image(source, smooth())
    raw = deserialize_message(picture.message.tobytes(), Image)
    assert (raw.header.stamp.sec, raw.header.frame_id) == (7, "camera")
    assert (raw.height, raw.width, raw.encoding) == (HEIGHT, WIDTH, encoding)
    channels = ENCODINGS[encoding].channels
    assert raw.step == WIDTH * channels
    expected_pixels = np.full((HEIGHT, WIDTH, channels), 255, np.uint8)
    source.write_restored(smooth(), expected_pixels[..., 0] if channels == 1 else expected_pixels)
    assert raw.data.tobytes() == expected_pixels.tobytes()
    jpeg = deserialize_message(picture.jpeg(95).tobytes(), CompressedImage)
    assert jpeg.header == raw.header and jpeg.format.startswith(f"{encoding}; jpeg compressed")
    read = cv2.imdecode(np.frombuffer(jpeg.data, np.uint8), cv2.IMREAD_COLOR)
    grey = cv2.cvtColor(cv2.cvtColor(smooth(), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2BGR)
    expected = grey if encoding == "mono8" else smooth()[..., ::-1]
    np.testing.assert_allclose(read, expected, atol=12)


def test_features() -> None:
    features = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    message = deserialize_message(
        FrameMessages().features(frame("bgr8"), features).tobytes(), Image
    )
    assert (message.encoding, message.height, message.width, message.step) == ("32FC5", 3, 4, 80)
    assert (message.header.stamp.sec, message.header.frame_id) == (7, "camera")
    read = np.frombuffer(message.data, np.float32).reshape(3, 4, 5)
    np.testing.assert_array_equal(read, features)


def test_camera_info_has_the_header_of_the_frame() -> None:
    info = FrameMessages().camera_info(frame("bgr8"), camera_info(64, 48))
    assert (info.header.stamp.sec, info.header.frame_id) == (7, "camera")
    assert list(info.k) == list(camera_info(64, 48).k)


def test_feature_info_is_scaled_again_when_any_of_it_has_changed() -> None:
    make, source = FrameMessages(), frame("bgr8")
    first, second = camera_info(WIDTH, HEIGHT), camera_info(2 * WIDTH, HEIGHT, binning_x=2)
    once = make.feature_info(source, first, (8, 6))
    assert once.k[0] == scaled_to(first, (WIDTH, HEIGHT), (8, 6)).k[0]
    assert once.header == source.header()
    assert make.feature_info(source, second, (8, 6)).k[0] == pytest.approx(once.k[0] / 2)
    assert make.feature_info(source, second, (16, 6)).k[0] == pytest.approx(once.k[0])


def test_feature_info_of_other_images_is_refused_each_time() -> None:
    make, source = FrameMessages(), frame("bgr8")
    make.feature_info(source, camera_info(WIDTH, HEIGHT), (8, 6))
    for _ in range(2):
        with pytest.raises(InfoMismatch):
            make.feature_info(source, camera_info(WIDTH, 2 * HEIGHT), (8, 6))
