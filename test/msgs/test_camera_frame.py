"""Frames as they are read from serialised messages: what they are, and what is wrong with them."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from camera_images import image_16_bit
from rclpy.serialization import serialize_message
from ros_station import image
from sensor_msgs.msg import CompressedImage, Image

from unirestore_ros.msgs.camera_frame import CameraFrame, CameraTraits, read_frame
from unirestore_ros.msgs.cdr import MalformedMessage

BGR = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def raw(message: Image) -> CameraFrame:
    message.header.stamp.sec, message.header.stamp.nanosec = 12, 34
    message.header.frame_id = "camera"
    return read_frame(serialize_message(message), False, arrived=5.0, number=7)


def compressed(content: bytes, kind: str = "png") -> CameraFrame:
    message = CompressedImage(format=kind, data=array.array("B", content))
    message.header.frame_id = "camera"
    return read_frame(serialize_message(message), True, arrived=5.0, number=7)


def png(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


def buffer() -> np.ndarray:
    return np.zeros((6, 8, 3), np.uint8)


def test_raw() -> None:
    frame = raw(image(BGR, "bgr8", padding=3))
    assert (frame.width, frame.height, frame.encoding, frame.unsupported) == (8, 6, "bgr8", None)
    assert (frame.arrived, frame.number, frame.stamp_ns) == (5.0, 7, 12_000_000_034)
    header = frame.header()
    assert (header.stamp.sec, header.stamp.nanosec, header.frame_id) == (12, 34, "camera")
    np.testing.assert_array_equal(frame.rgb(buffer()), BGR[..., ::-1])
    frame.write_camera(out := buffer())
    np.testing.assert_array_equal(out, BGR)
    frame.write_restored(BGR, out)
    np.testing.assert_array_equal(out, BGR[..., ::-1])


def test_raw_that_is_published_in_another_encoding() -> None:
    frame = raw(image(BGR[..., 0], "bayer_rggb8"))
    assert frame.encoding == "bgr8"
    frame.write_camera(out := buffer())
    np.testing.assert_array_equal(out, cv2.cvtColor(BGR[..., 0].copy(), cv2.COLOR_BayerBG2BGR))


def test_the_alpha_channel_is_kept() -> None:
    frame = raw(image(np.dstack([BGR, BGR[..., 0]]), "bgra8"))
    frame.write_restored(BGR, out := np.zeros((6, 8, 4), np.uint8))
    np.testing.assert_array_equal(out, np.dstack([BGR[..., ::-1], BGR[..., 0]]))


def test_unknown_encoding_is_unsupported() -> None:
    frame = raw(image(BGR[..., 0], "16UC1"))
    assert frame.unsupported is not None and "encoding '16UC1' is depth" in frame.unsupported
    assert frame.is_publishable


def read_as(message: Image, assumed: str) -> CameraFrame:
    return read_frame(serialize_message(message), False, 0.0, 0, CameraTraits(assumed))


def test_an_encoding_without_colours_is_what_the_user_says() -> None:
    for assumed, rgb in (("rgb8", BGR), ("bgr8", BGR[..., ::-1])):
        frame = read_as(image(BGR, "8UC3", padding=5), assumed)
        assert (frame.unsupported, frame.encoding) == (None, assumed)
        np.testing.assert_array_equal(frame.rgb(buffer()), rgb)
        assert not frame.is_publishable  # the message does not say what it holds
        frame.write_camera(out := buffer())
        np.testing.assert_array_equal(out, BGR)
    frame = read_as(image(BGR[..., 0], "8UC1"), "mono8")
    frame.write_camera(out := np.zeros((6, 8), np.uint8))
    np.testing.assert_array_equal(out, BGR[..., 0])


def test_an_encoding_without_colours_is_refused_with_what_to_set() -> None:
    frame = read_as(image(BGR, "8UC3"), "")
    assert frame.unsupported is not None and "set assume_encoding" in frame.unsupported
    assert frame.is_publishable
    short = image(BGR, "8UC3")
    short.height += 1
    with pytest.raises(MalformedMessage):
        read_as(short, "")


def test_a_step_of_0_is_made_whole() -> None:
    message = image(BGR, "bgr8")
    message.step = 0
    frame = read_as(message, "")
    assert not frame.is_publishable
    frame.write_camera(out := buffer())
    np.testing.assert_array_equal(out, BGR)


def test_16_bits_are_scaled_by_what_the_camera_has_shown() -> None:
    camera = CameraTraits()
    bright, dark = np.full((6, 8), 1023, np.uint16), np.full((6, 8), 341, np.uint16)

    def shown(values: np.ndarray) -> np.ndarray:
        message = serialize_message(image_16_bit(values, "mono16"))
        return read_frame(message, False, 0.0, 0, camera).rgb(buffer()).copy()

    assert (shown(dark) == 255).all()
    assert (shown(bright) == 255).all()
    assert (shown(dark) == 85).all()
    read_as(image_16_bit(bright, "mono16"), "").observe()
    read_frame(serialize_message(image_16_bit(bright * 4, "mono16")), False, 0, 0, camera).observe()
    assert camera.peak.value == 4092


def test_16_bits_come_out_as_bgr8() -> None:
    frame = read_as(image_16_bit(np.full((6, 8), 4095, np.uint16), "mono16"), "")
    assert frame.encoding == "bgr8" and not frame.is_publishable


def test_compressed() -> None:
    frame = compressed(png(BGR))
    assert (frame.width, frame.height, frame.encoding, frame.unsupported) == (8, 6, "bgr8", None)
    np.testing.assert_array_equal(frame.rgb(buffer()), BGR[..., ::-1])
    np.testing.assert_array_equal(frame.bgr(buffer()), BGR)
    frame.write_camera(out := buffer())
    np.testing.assert_array_equal(out, BGR)


def test_a_grey_camera_in_colour() -> None:
    frame = raw(image(BGR[..., 0], "mono8"))
    np.testing.assert_array_equal(frame.bgr(buffer()), np.dstack([BGR[..., 0]] * 3))


def test_compressed_in_another_format_is_unsupported() -> None:
    unsupported = compressed(b"RIFF    WEBP", "webp").unsupported
    assert unsupported is not None and "neither JPEG nor 8-bit PNG" in unsupported


def test_compressed_that_lies_about_its_size() -> None:
    content = bytearray(cv2.imencode(".jpg", BGR)[1].tobytes())
    position = content.index(b"\xff\xc0") + 5
    content[position : position + 2] = (12).to_bytes(2, "big")
    frame = compressed(bytes(content))
    assert (frame.width, frame.height) == (8, 12)
    pixels = frame.rgb(np.zeros((12, 8, 3), np.uint8))  # OpenCV believes it, and fills the rest
    assert pixels.shape == (12, 8, 3)


def test_compressed_whose_pixels_are_broken() -> None:
    content = bytearray(png(BGR))
    start = content.index(b"IDAT") + 4
    content[start : start + 8] = bytes(8)
    with pytest.raises(MalformedMessage, match="does not decode"):
        compressed(bytes(content)).rgb(buffer())


def changed(**fields: Any) -> Callable[[], CameraFrame]:
    def read() -> CameraFrame:
        message = image(BGR, "bgr8")
        for name, value in fields.items():
            setattr(message, name, value)
        return raw(message)

    return read


@pytest.mark.parametrize(
    "read",
    [
        changed(height=7),
        changed(step=23),
        changed(width=0),
        changed(height=0),
        changed(width=2**31, height=2**31),
        changed(data=array.array("B")),
        lambda: read_frame(b"", False, 0.0, 0),
        lambda: read_frame(serialize_message(image(BGR, "bgr8"))[:-40], False, 0.0, 0),
        lambda: compressed(png(BGR)[:-30]),
    ],
)
def test_malformed(read: Callable[[], CameraFrame]) -> None:
    with pytest.raises(MalformedMessage):
        read()
