"""Every encoding against references written out in numpy, and against cv_bridge where it is sound.

cv_bridge's published behaviour: a pixel's bytes are in the order of the encoding's name;
bayer_rggb8 has red at row 0, column 0; yuv422 is U Y V Y, yuv422_yuy2 is Y U Y V, of ITU-R BT.601
with luma 16 to 235; grey is 0.299 R + 0.587 G + 0.114 B.
"""

from __future__ import annotations

import array
import functools

import numpy as np
import pytest
from camera_images import image_of_bytes
from numpy.typing import NDArray
from ros_station import image
from sensor_msgs.msg import Image

from unirestore_ros.msgs.cdr import MalformedMessage, UnsupportedFrame
from unirestore_ros.msgs.encodings import (
    ASSUMABLE,
    ENCODINGS,
    check_image,
    copy_alpha,
    from_rgb,
    image_message,
    named_encoding,
    output_encoding,
    to_bgr,
    to_rgb,
    view_pixels,
)

HEIGHT, WIDTH = 12, 16
COLOURS = {"r": 0, "g": 1, "b": 2}
BAYER = ("bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8")
YUV = ("yuv422", "uyvy", "yuv422_yuy2", "yuyv")
PLANES = ("nv12", "nv21", "nv24")
DEEP = ("mono16", *(f"{name[:-1]}16" for name in BAYER))
IN_BYTES = tuple(name for name in ENCODINGS if name not in (*PLANES, *DEEP))


def noise(channels: int, seed: int = 0) -> NDArray[np.uint8]:
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def rgb_of_bayer(mosaic: NDArray[np.uint8], pattern: str) -> NDArray[np.float64]:
    """Bilinear: a colour that a pixel lacks is the mean of its nearest pixels that have it. Right
    away from the border, which OpenCV fills with its neighbours."""
    height, width = mosaic.shape
    rows, columns = np.indices(mosaic.shape)
    colour = np.array([COLOURS[c] for c in pattern])[2 * (rows % 2) + columns % 2]
    result = np.zeros((height, width, 3))
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            near = np.s_[y - 1 : y + 2, x - 1 : x + 2]
            reach = np.abs(np.indices((3, 3)) - 1).sum(axis=0)
            for c in range(3):
                has = colour[near] == c
                nearest = has & (reach == reach[has].min())
                result[y, x, c] = mosaic[near][nearest].mean()
    return result


def rgb_of_yuv(pairs: NDArray[np.uint8], luma_first: bool) -> NDArray[np.float64]:
    """(H,W,2) bytes; two neighbours share U, which the left one carries, and V, the right one's."""
    y, chroma = (pairs[..., i].astype(float) for i in ((0, 1) if luma_first else (1, 0)))
    u, v = (np.repeat(chroma[:, i::2], 2, axis=1) - 128 for i in (0, 1))
    luma = 1.164 * np.maximum(y - 16, 0)
    rgb = np.stack([luma + 1.596 * v, luma - 0.813 * v - 0.391 * u, luma + 2.018 * u], axis=-1)
    return rgb.clip(0, 255)


def expected_rgb(pixels: NDArray[np.uint8], encoding: str) -> NDArray[np.float64]:
    if encoding in BAYER:
        return rgb_of_bayer(pixels, encoding[6:10])
    if encoding in YUV:
        return rgb_of_yuv(pixels, luma_first=encoding in ("yuv422_yuy2", "yuyv"))
    if encoding == "mono8":
        return np.repeat(pixels[..., None], 3, axis=2).astype(float)
    return np.stack([pixels[..., encoding.index(c)] for c in "rgb"], axis=-1).astype(float)


def compared(encoding: str) -> tuple[slice, slice]:
    return np.s_[1:-1, 1:-1] if encoding in BAYER else np.s_[:, :]


@pytest.mark.parametrize("padding", [0, 1, 7])
@pytest.mark.parametrize("encoding", IN_BYTES)
def test_to_rgb_and_to_bgr(encoding: str, padding: int) -> None:
    pixels = noise(ENCODINGS[encoding].channels)
    message = image(pixels, encoding, padding)
    check_image(message)
    np.testing.assert_array_equal(view_pixels(message), pixels)
    rgb = to_rgb(message, np.empty((HEIGHT, WIDTH, 3), np.uint8))
    bgr = to_bgr(message, np.empty((HEIGHT, WIDTH, 3), np.uint8))
    assert rgb.flags.c_contiguous and bgr.flags.c_contiguous
    np.testing.assert_array_equal(bgr[..., ::-1], rgb)
    inside = compared(encoding)
    tolerance = 0 if ENCODINGS[encoding].channels > 2 or encoding == "mono8" else 1
    np.testing.assert_allclose(rgb[inside], expected_rgb(pixels, encoding)[inside], atol=tolerance)


def test_every_encoding_of_the_contract_is_known() -> None:
    assert {"bgr8", "rgb8", "bgra8", "rgba8", "mono8", *BAYER, *YUV, *PLANES, *DEEP} == set(
        ENCODINGS
    )


def test_aliases_are_the_same() -> None:
    assert ENCODINGS["uyvy"] == ENCODINGS["yuv422"] != ENCODINGS["yuv422_yuy2"] == ENCODINGS["yuyv"]


def test_a_view_shares_the_memory_of_the_message() -> None:
    message = image(noise(3), "rgb8", padding=5)
    view = view_pixels(message)
    message.data[message.step * 2 + 4] ^= 0xFF
    assert view[2, 1, 1] == message.data[message.step * 2 + 4]
    assert (
        np.shares_memory(to_rgb(image(noise(3), "rgb8"), np.empty((0,), np.uint8)), view) is False
    )


def test_rgb8_without_padding_is_not_copied() -> None:
    message = image(noise(3), "rgb8")
    rgb = to_rgb(message, np.empty((HEIGHT, WIDTH, 3), np.uint8))
    assert np.shares_memory(rgb, np.frombuffer(message.data, np.uint8))


def test_conversion_writes_into_the_memory_that_is_given() -> None:
    out = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    for encoding in set(IN_BYTES) - {"rgb8"}:
        assert to_rgb(image(noise(ENCODINGS[encoding].channels), encoding), out) is out


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_output_encoding(encoding: str) -> None:
    kept = {"bgr8", "rgb8", "bgra8", "rgba8", "mono8"}
    assert output_encoding(encoding) == (encoding if encoding in kept else "bgr8")


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
def test_from_rgb(encoding: str) -> None:
    rgb, out = noise(3), np.zeros_like(noise(ENCODINGS[encoding].channels))
    from_rgb(rgb, encoding, out)
    if encoding == "mono8":
        np.testing.assert_allclose(out, rgb @ np.array([0.299, 0.587, 0.114]), atol=1)
    else:
        np.testing.assert_array_equal(expected_rgb(out, encoding), rgb)


@pytest.mark.parametrize("encoding", ["rgba8", "bgra8"])
def test_transparency_is_the_cameras(encoding: str) -> None:
    source = noise(4)
    out = np.zeros_like(source)
    from_rgb(noise(3, seed=1), encoding, out)
    copy_alpha(image(source, encoding, padding=3), out)
    np.testing.assert_array_equal(out[..., 3], source[..., 3])


@pytest.mark.parametrize("encoding", ["bgr8", "mono8", "rgba8"])
def test_image_message(encoding: str) -> None:
    pixels = noise(ENCODINGS[encoding].channels)
    message = image_message(pixels, encoding)
    check_image(message)
    assert message.step * HEIGHT == len(message.data)
    np.testing.assert_array_equal(view_pixels(message), pixels)


def broken(**fields: object) -> Image:
    message = image(noise(3), "bgr8")
    for name, value in fields.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (broken(height=HEIGHT + 1), "576 bytes of data instead of 624"),
        (broken(data=array.array("B")), "0 bytes of data"),
        (broken(step=WIDTH * 3 - 1), "step 47 is under a row's 48 bytes"),
        (broken(width=0), "a size of 0x12"),
        (broken(height=0), "a size of 16x0"),
        (broken(width=2**31), "a size of 2147483648x12"),
        (broken(height=2**32 - 1), "a size of 16x4294967295"),
        (image(noise(2)[:, :15], "yuv422"), "width 15 is odd"),
        (broken(encoding="16UC1", data=array.array("B", bytes(10))), "10 bytes of data"),
    ],
)
def test_malformed(message: Image, why: str) -> None:
    with pytest.raises(MalformedMessage, match=why):
        check_image(message)


@pytest.mark.parametrize(
    ("encoding", "why"),
    [
        ("BGR8", "is not one of rgb8, .*: have the camera's driver send one of them"),
        ("h264", "is not one of rgb8"),
        ("16UC1", "is depth or another measurement, no picture: choose the camera's colour topic"),
        ("32FC1", "is depth"),
        ("8UC3", r"does not say .*: set assume_encoding to .*\(rgb8, bgr8\)"),
        ("", "set assume_encoding"),
    ],
)
def test_unknown_encoding_says_what_to_do(encoding: str, why: str) -> None:
    with pytest.raises(UnsupportedFrame, match=why):
        check_image(broken(encoding=encoding))


def test_named_encoding() -> None:
    assert named_encoding("rgb8", "mono8") == "rgb8"
    for nameless, assumed in [
        ("8UC1", "mono8"),
        ("8UC1", "bayer_rggb8"),
        ("8UC3", "rgb8"),
        ("8UC4", "bgra8"),
        ("", "yuv422"),
        ("", "nv12"),
    ]:
        assert assumed in ASSUMABLE
        assert named_encoding(nameless, assumed) == assumed


@pytest.mark.parametrize(
    ("nameless", "assumed", "why"),
    [
        ("8UC3", "", r"'8UC3' does not say .* set assume_encoding to .*\(rgb8, bgr8\)"),
        ("8UC3", "mono8", "which 'mono8' does not fit"),
        ("8UC1", "nv12", r"\(mono8, bayer_rggb8"),
    ],
)
def test_assumed_encoding_that_does_not_fit(nameless: str, assumed: str, why: str) -> None:
    with pytest.raises(UnsupportedFrame, match=why):
        named_encoding(nameless, assumed)


def test_a_step_of_0_is_packed() -> None:
    """Some drivers leave it out."""
    for encoding in ("bgr8", "mono8", "yuv422"):
        pixels = noise(ENCODINGS[encoding].channels)
        message = image(pixels, encoding)
        message.step = 0
        check_image(message)
        np.testing.assert_array_equal(view_pixels(message), pixels)
    message = image(noise(3), "bgr8")
    message.step, message.data = 0, message.data[:-1]
    with pytest.raises(MalformedMessage):
        check_image(message)


@pytest.mark.parametrize(
    "encoding", ["nv12", "nv21", "nv24", "mono16", "bayer_rggb16", "bayer_grbg16"]
)
def test_a_step_of_0_is_packed_in_two_planes_and_in_16_bits(encoding: str) -> None:
    rgb = noise(3)
    packed, without = (image_of_bytes(rgb, encoding) for _ in range(2))
    without.step = 0
    check_image(without)
    expected, got = (np.empty((HEIGHT, WIDTH, 3), np.uint8) for _ in range(2))
    np.testing.assert_array_equal(to_rgb(without, got), to_rgb(packed, expected))
    without.data = without.data[:-1]
    with pytest.raises(MalformedMessage):
        check_image(without)


@functools.cache
def cv_bridge_is_sound() -> bool:
    """Whether cv_bridge is there, and reads a padded row right with this numpy and OpenCV."""
    try:
        from cv_bridge import CvBridge

        pixels = noise(3)
        read = CvBridge().imgmsg_to_cv2(image(pixels, "bgr8", padding=5), "bgr8")
        return bool(np.array_equal(read, pixels))
    except (ImportError, AttributeError, TypeError, ValueError):
        return False


@pytest.mark.parametrize("encoding", IN_BYTES)
def test_as_cv_bridge_reads_it(encoding: str) -> None:
    if not cv_bridge_is_sound():
        pytest.skip("there is no cv_bridge here that is sound with this numpy and OpenCV")
    from cv_bridge import CvBridge

    message = image(noise(ENCODINGS[encoding].channels), encoding, padding=4)
    theirs = CvBridge().imgmsg_to_cv2(message, "bgr8")
    ours = to_bgr(message, np.empty((HEIGHT, WIDTH, 3), np.uint8))
    np.testing.assert_array_equal(ours, theirs)
