"""Encodings of 16 bits, scaled by the highest value that the camera has shown, and YUV in planes,
against references written out in numpy."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from camera_images import image_16_bit, image_of_bytes, image_of_planes
from numpy.typing import NDArray

from unirestore_ros.msgs.cdr import MalformedMessage
from unirestore_ros.msgs.encodings import ENCODINGS, SensorPeak, check_image, to_bgr, to_rgb

HEIGHT, WIDTH = 12, 16
RANDOM = np.random.default_rng(3)


def out() -> NDArray[np.uint8]:
    return np.empty((HEIGHT, WIDTH, 3), np.uint8)


def values(highest: int) -> NDArray[np.uint16]:
    """(H,W) of a sensor, with its highest value."""
    result = RANDOM.integers(0, highest + 1, (HEIGHT, WIDTH)).astype(np.uint16)
    result[0, 0] = highest
    return result


def noise(*shape: int) -> NDArray[np.uint8]:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def rgb_of(luma: NDArray[np.uint8], chroma: NDArray[np.uint8]) -> NDArray[np.float64]:
    """ITU-R BT.601 with luma 16 to 235, written out; chroma (H,W,2) of U and V."""
    y = 1.164 * (np.maximum(luma.astype(float), 16) - 16)
    u, v = chroma[..., 0].astype(float) - 128, chroma[..., 1].astype(float) - 128
    rgb = np.stack([y + 1.596 * v, y - 0.391 * u - 0.813 * v, y + 2.018 * u], axis=-1)
    return rgb.clip(0, 255)


@pytest.mark.parametrize("is_bigendian", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 6])
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_mono16(bits: int, padding: int, is_bigendian: bool) -> None:
    """10 bits in 16 are as bright as 16."""
    sent = values(2**bits - 1)
    message = image_16_bit(sent, "mono16", padding, is_bigendian)
    check_image(message)
    expected = np.repeat(np.round(sent * (255 / (2**bits - 1)))[..., None], 3, axis=2)
    np.testing.assert_allclose(to_rgb(message, out()), expected, atol=1)
    np.testing.assert_allclose(to_bgr(message, out()), expected, atol=1)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_of_16_bits_is_that_of_8_bits(pattern: str) -> None:
    mosaic = noise(HEIGHT, WIDTH)
    mosaic[0, 0] = 255
    deep = image_16_bit(mosaic.astype(np.uint16) * 16, f"bayer_{pattern}16")
    shallow = image_of_bytes(np.dstack([mosaic] * 3), f"bayer_{pattern}8")
    np.testing.assert_array_equal(to_rgb(deep, out()), to_rgb(shallow, out()))
    np.testing.assert_array_equal(to_bgr(deep, out()), to_bgr(shallow, out()))


def test_the_peak_is_the_cameras_and_never_falls() -> None:
    peak = SensorPeak()
    bright = to_rgb(image_16_bit(values(4095), "mono16"), out(), peak)
    assert bright.max() == 255 and peak.value == 4095
    dark = to_rgb(image_16_bit(values(1023), "mono16"), out(), peak)
    assert dark.max() == 64 and peak.value == 4095


def test_values_of_8_bits_in_16_are_not_amplified() -> None:
    sent = values(40)
    rgb = to_rgb(image_16_bit(sent, "mono16"), out(), SensorPeak())
    np.testing.assert_array_equal(rgb[..., 1], sent)


@pytest.mark.parametrize("padding", [0, 2, 16])
@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_4_2_0(encoding: str, padding: int) -> None:
    luma, chroma = noise(HEIGHT, WIDTH), noise(HEIGHT // 2, WIDTH // 2, 2)
    message = image_of_planes(luma, chroma, encoding, padding)
    check_image(message)
    uv = chroma if encoding == "nv12" else chroma[..., ::-1]
    expected = rgb_of(luma, uv.repeat(2, axis=0).repeat(2, axis=1))
    rgb, bgr = to_rgb(message, out()), to_bgr(message, out())
    np.testing.assert_allclose(rgb, expected, atol=1)
    np.testing.assert_array_equal(bgr[..., ::-1], rgb)


@pytest.mark.parametrize("padding", [0, 3])
def test_4_4_4(padding: int) -> None:
    luma, chroma = noise(HEIGHT, WIDTH), noise(HEIGHT, WIDTH, 2)
    message = image_of_planes(luma, chroma, "nv24", padding)
    check_image(message)
    rgb, bgr = to_rgb(message, out()), to_bgr(message, out())
    np.testing.assert_allclose(rgb, rgb_of(luma, chroma), atol=1)
    np.testing.assert_array_equal(bgr[..., ::-1], rgb)


@pytest.mark.parametrize(
    ("encoding", "step"),
    [("nv12", 0), ("nv12", 24), ("nv21", 32), ("nv24", 0), ("nv24", 32), ("nv24", 48)],
)
def test_a_step_that_counts_the_chroma_is_packed(encoding: str, step: int) -> None:
    """As drivers do that take a pixel for one and a half, two or three bytes."""
    message = image_of_bytes(noise(HEIGHT, WIDTH, 3), encoding)
    expected = to_rgb(message, out()).copy()
    message.step = step
    check_image(message)
    np.testing.assert_array_equal(to_rgb(message, out()), expected)


@pytest.mark.parametrize("encoding", ["nv12", "nv24", "mono16", "bayer_rggb16"])
def test_short_data(encoding: str) -> None:
    message = image_of_bytes(noise(HEIGHT, WIDTH, 3), encoding)
    message.data = message.data[:-1]
    with pytest.raises(MalformedMessage, match="bytes of data instead of"):
        check_image(message)


def test_odd_sizes_that_share_chroma() -> None:
    for rows, columns in ((HEIGHT - 1, WIDTH), (HEIGHT, WIDTH - 1)):
        message = image_of_bytes(noise(HEIGHT, WIDTH, 3), "nv12")
        message.height, message.width = rows, columns
        with pytest.raises(MalformedMessage, match="is odd in nv12"):
            check_image(message)


def test_a_step_under_a_row_of_16_bits() -> None:
    message = image_16_bit(values(9), "mono16")
    message.step = WIDTH
    with pytest.raises(MalformedMessage, match="step 16 is under a row's 32 bytes"):
        check_image(message)


def test_every_encoding_gives_a_picture() -> None:
    """A picture that is not black: the frame's own content, in whatever colours."""
    rgb = cv2.GaussianBlur(noise(HEIGHT, WIDTH, 3), (5, 5), 0)
    for encoding in ENCODINGS:
        assert to_rgb(image_of_bytes(rgb, encoding), out()).std() > 3, encoding
