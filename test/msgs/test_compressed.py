"""JPEG and PNG: sizes read from their heads, pixels, and what is refused."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from unirestore_ros.decoding import decode_rgb
from unirestore_ros.msgs.cdr import MalformedMessage, UnsupportedFrame
from unirestore_ros.msgs.compressed import compressed_size, decode, encode_jpeg, jpeg_format

HEIGHT, WIDTH = 24, 40


def smooth() -> NDArray[np.uint8]:
    """BGR that JPEG keeps well."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([4 * x + 20, 6 * y + 30, 2 * x + 2 * y + 40], axis=-1).astype(np.uint8)


def encoded(kind: str, pixels: NDArray[np.generic], *options: int) -> NDArray[np.uint8]:
    return cv2.imencode(kind, pixels, options)[1].reshape(-1)


JPEGS = {
    "plain": encoded(".jpg", smooth(), cv2.IMWRITE_JPEG_QUALITY, 95),
    "progressive": encoded(".jpg", smooth(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "grey": encoded(".jpg", smooth()[..., 0]),
    "restarts": encoded(".jpg", smooth(), cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
}
PNGS = {
    "colour": encoded(".png", smooth()),
    "alpha": encoded(".png", np.dstack([smooth(), smooth()[..., 0]])),
}
DEPTH_PNG = encoded(".png", smooth()[..., 0].astype(np.uint16) * 257)


def with_thumbnail(jpeg: NDArray[np.uint8], *filling: int) -> NDArray[np.uint8]:
    """With another, whole JPEG in an application segment, and fill bytes before the next marker."""
    inner = encoded(".jpg", np.zeros((8, 8, 3), np.uint8)).tobytes()
    segment = b"\xff\xe1" + struct.pack(">H", len(inner) + 2) + inner + bytes(filling)
    content = jpeg.tobytes()
    return np.frombuffer(content[:2] + segment + content[2:], np.uint8)


def turned_by_exif(jpeg: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """With an EXIF tag that asks viewers to turn it by 90 degrees."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    body = b"Exif\0\0" + tiff
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    content = jpeg.tobytes()
    return np.frombuffer(content[:2] + segment + content[2:], np.uint8)


@pytest.mark.parametrize("data", [*JPEGS.values(), *PNGS.values()], ids=[*JPEGS, *PNGS])
def test_size(data: NDArray[np.uint8]) -> None:
    assert compressed_size(data) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("filling", [(), (0xFF, 0xFF)])
def test_size_is_not_the_thumbnails(filling: tuple[int, ...]) -> None:
    assert compressed_size(with_thumbnail(JPEGS["plain"], *filling)) == (WIDTH, HEIGHT)


def test_pixels() -> None:
    for name in ("colour", "alpha"):
        np.testing.assert_array_equal(decode(PNGS[name], WIDTH, HEIGHT), smooth())
    np.testing.assert_allclose(decode(JPEGS["plain"], WIDTH, HEIGHT), smooth(), atol=8)
    grey = decode(JPEGS["grey"], WIDTH, HEIGHT)
    assert grey.shape == (HEIGHT, WIDTH, 3) and (grey[..., 0] == grey[..., 2]).all()


def test_pixels_stay_as_they_are_stored() -> None:
    data = turned_by_exif(JPEGS["plain"])
    assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == (WIDTH, HEIGHT, 3)  # it is such a file
    plain = decode(JPEGS["plain"], WIDTH, HEIGHT)
    np.testing.assert_array_equal(decode(data, WIDTH, HEIGHT), plain)


def test_the_engine_process_decodes_to_the_same_pixels() -> None:
    for data in (*JPEGS.values(), *PNGS.values(), turned_by_exif(JPEGS["plain"])):
        decode_rgb(data, rgb := np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        np.testing.assert_array_equal(rgb[..., ::-1], decode(data, WIDTH, HEIGHT))


def test_another_size_than_the_headers() -> None:
    with pytest.raises(MalformedMessage, match="decodes to 40x24, its header says 24x40"):
        decode(JPEGS["plain"], HEIGHT, WIDTH)


@pytest.mark.parametrize("length", [2, 3, 11, 30])
def test_ends_before_its_size(length: int) -> None:
    for data in (JPEGS["plain"], PNGS["colour"]):
        if length > 8 or data is JPEGS["plain"]:
            with pytest.raises(MalformedMessage):
                compressed_size(data[: min(length, 20)])


@pytest.mark.parametrize("data", [JPEGS["plain"], PNGS["colour"]], ids=["jpeg", "png"])
def test_cut_off(data: NDArray[np.uint8]) -> None:
    with pytest.raises(MalformedMessage, match="cut off"):
        compressed_size(data[: len(data) * 2 // 3])


def test_a_thumbnails_end_is_not_the_images() -> None:
    whole = with_thumbnail(JPEGS["plain"])
    with pytest.raises(MalformedMessage, match="cut off"):
        compressed_size(whole[:-40])


def test_broken_segments() -> None:
    data = JPEGS["plain"].copy()
    data[2] = 0
    with pytest.raises(MalformedMessage, match="segments"):
        compressed_size(data)


def test_png_without_its_size() -> None:
    data = PNGS["colour"].copy()
    data[12:16] = np.frombuffer(b"tEXt", np.uint8)
    with pytest.raises(MalformedMessage, match="does not start with its size"):
        compressed_size(data)


def test_absurd_size() -> None:
    data = PNGS["colour"].copy()
    data[16:20] = np.frombuffer(struct.pack(">I", 2_000_000), np.uint8)
    with pytest.raises(MalformedMessage, match="a size of 2000000x24"):
        compressed_size(data)


@pytest.mark.parametrize("content", [b"", b"BM what else", b"RIFF    WEBP"])
def test_other_formats(content: bytes) -> None:
    with pytest.raises(UnsupportedFrame, match="format 'webp' is neither JPEG nor 8-bit PNG"):
        compressed_size(np.frombuffer(content, np.uint8), "webp")


@pytest.mark.parametrize("kind", ["jpeg", "bgr8; jpeg compressed bgr8", "PNG", "jpg"])
@pytest.mark.parametrize("content", [b"", b"\0" * 50])
def test_what_is_not_what_its_format_says(kind: str, content: bytes) -> None:
    with pytest.raises(MalformedMessage, match=f"{len(content)} bytes .* are no JPEG and no PNG"):
        compressed_size(np.frombuffer(content, np.uint8), kind)


@pytest.mark.parametrize(
    ("kind", "transport"),
    [
        ("h264", "ffmpeg"),
        ("hevc", "ffmpeg"),
        ("yuv420p; H265", "ffmpeg"),
        ("theora", "theora"),
        ("webp", "compressed"),
    ],
)
def test_other_codecs_are_named_with_the_command_that_republishes_them(
    kind: str, transport: str
) -> None:
    with pytest.raises(UnsupportedFrame) as refused:
        compressed_size(np.frombuffer(b"\0\0\0\1\x67", np.uint8), kind)
    said = str(refused.value)
    assert repr(kind) in said and "ros2 run image_transport republish" in said
    assert f"in_transport:={transport} -p out_transport:=raw" in said and "\n" not in said


@pytest.mark.parametrize(
    "kind", ["16UC1; compressedDepth png", "32FC1; compressedDepth rvl", "16UC1; png compressed"]
)
def test_depth_is_no_picture(kind: str) -> None:
    """Whatever the content is: compressedDepth begins with a header of its own."""
    for data in (DEPTH_PNG, PNGS["colour"], np.zeros(40, np.uint8)):
        with pytest.raises(UnsupportedFrame, match=f"{kind!r} is a depth image"):
            compressed_size(data, kind)


@pytest.mark.parametrize("kind", ["", "png", "bgr8; png compressed bgr8", "mono16; png compressed"])
def test_a_png_of_16_bits_is_no_picture_whatever_its_format(kind: str) -> None:
    with pytest.raises(UnsupportedFrame, match="a PNG of 16 bits is a depth image"):
        compressed_size(DEPTH_PNG, kind)


def png_head(width: int, height: int, length: int) -> NDArray[np.uint8]:
    """A PNG of ``length`` bytes that says it has that size."""
    content = b"\x89PNG\r\n\x1a\n" + struct.pack(
        ">I4sIIBBBBB", 13, b"IHDR", width, height, 8, 2, 0, 0, 0
    )
    return np.frombuffer(content.ljust(length - 8, b"\0") + b"IEND\0\0\0\0", np.uint8)


def test_a_small_file_of_a_large_image_is_not_decoded() -> None:
    with pytest.raises(MalformedMessage, match="32000 bytes that says it has 4096x4096 pixels"):
        compressed_size(png_head(4096, 4096, 32000))
    assert compressed_size(png_head(4096, 4096, 4096 * 4096 // 64)) == (4096, 4096)


def test_a_black_image_of_a_simulator_is_decoded() -> None:
    for kind in (".png", ".jpg"):
        data = encoded(kind, np.zeros((480, 640, 3), np.uint8))
        assert compressed_size(data) == (640, 480)
    data = encoded(".jpg", np.zeros((1080, 1920, 3), np.uint8), cv2.IMWRITE_JPEG_QUALITY, 90)
    assert compressed_size(data) == (1920, 1080)


@pytest.mark.parametrize("size", [(4097, 64), (64, 4097), (16384, 16384)])
def test_larger_than_a_camera_is_not_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(UnsupportedFrame, match="is not decoded: at most 4096x4096"):
        compressed_size(png_head(*size, 100000))


def test_a_file_longer_than_its_pixels_is_not_decoded() -> None:
    data = np.zeros((80 << 20) + 1, np.uint8)
    data[: JPEGS["plain"].size] = JPEGS["plain"]
    with pytest.raises(MalformedMessage, match="a compressed image of 83886081 bytes"):
        compressed_size(data)
    assert compressed_size(data[:-1]) == (WIDTH, HEIGHT)


def test_segments_without_end_are_given_up_soon() -> None:
    """Some millions of them would stop the thread that reads messages."""
    data = np.full(8_000_000, 0xFF, np.uint8)
    data[1] = 0xD8
    with pytest.raises(MalformedMessage, match="more than 4096 segments"):
        compressed_size(data)


def test_what_does_not_decode() -> None:
    data = JPEGS["plain"].copy()
    data[2:-2] = 0
    for broken in (data, data[:0]):
        with pytest.raises(MalformedMessage, match="does not decode"):
            decode(broken, WIDTH, HEIGHT)


@pytest.mark.parametrize("grey", [False, True])
def test_encode(grey: bool) -> None:
    pixels = smooth()[..., 0] if grey else smooth()
    read = cv2.imdecode(encode_jpeg(pixels, 95), cv2.IMREAD_UNCHANGED)
    assert read.shape == pixels.shape
    np.testing.assert_allclose(read, pixels, atol=8)


def test_quality() -> None:
    assert len(encode_jpeg(smooth(), 10)) < len(encode_jpeg(smooth(), 90))


def test_format_is_image_transports() -> None:
    assert jpeg_format("rgba8") == "rgba8; jpeg compressed bgr8"
    assert jpeg_format("mono8") == "mono8; jpeg compressed mono8"
