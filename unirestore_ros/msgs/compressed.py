"""JPEG and PNG in `sensor_msgs/CompressedImage`, as image_transport uses them."""

from __future__ import annotations

import struct

import cv2
import numpy as np

from unirestore_ros.msgs.cdr import MalformedMessage, UnsupportedFrame
from unirestore_ros.msgs.encodings import Pixels, check_size

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND"
_JPEG = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
# As stored: an image turned as EXIF asks would no longer fit its CameraInfo.
_AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
# JPEG markers that start a frame (ITU-T T.81, table B.1): all of 0xC0..0xCF but DHT, JPG and DAC.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def compressed_size(data: Pixels) -> tuple[int, int]:
    """(width, height) from the file's header, without decoding it. ``data``: (bytes,) uint8.

    Raises MalformedMessage where the file is cut off, UnsupportedFrame where it is neither JPEG nor
    PNG.
    """
    content = data.tobytes()
    if content.startswith(_PNG):
        width, height, start = _png_size(content)
        end = _PNG_END
    elif content.startswith(_JPEG):
        width, height, start = _jpeg_size(content)
        end = _JPEG_END
    else:
        raise UnsupportedFrame("the compressed image is neither JPEG nor PNG")
    check_size(width, height)
    if content.rfind(end, start) < 0:
        raise MalformedMessage("the compressed image is cut off")
    return width, height


def decode(data: Pixels) -> Pixels:
    """Decode to BGR (H,W,3) uint8; a single channel is repeated, an alpha channel is left out."""
    try:
        pixels = cv2.imdecode(data, _AS_STORED)
    except cv2.error as error:
        raise MalformedMessage(f"the compressed image does not decode: {error.err}") from error
    if pixels is None:
        raise MalformedMessage("the compressed image does not decode")
    return np.asarray(pixels, np.uint8)


def encode_jpeg(pixels: Pixels, quality: int) -> Pixels:
    """Encode BGR (H,W,3) or grey (H,W) uint8 pixels; returns the file, (bytes,) uint8."""
    _, content = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, quality))
    return np.asarray(content, np.uint8).reshape(-1)


def jpeg_format(encoding: str) -> str:
    """The ``format`` of a `CompressedImage`: the raw image's encoding, which image_transport
    restores when it decodes, and the encoding of the pixels in the file."""
    return f"{encoding}; jpeg compressed {'mono8' if encoding == 'mono8' else 'bgr8'}"


def _png_size(content: bytes) -> tuple[int, int, int]:
    """Width, height, and the offset behind them."""
    try:
        kind, width, height = struct.unpack_from(">4sII", content, len(_PNG) + 4)
    except struct.error:
        raise MalformedMessage("the PNG ends before its size") from None
    if kind != b"IHDR":
        raise MalformedMessage("the PNG does not start with its size")
    return width, height, len(_PNG) + 16


def _jpeg_size(content: bytes) -> tuple[int, int, int]:
    """Width, height, and the offset of the frame; a thumbnail lies before it."""
    position = len(_JPEG)
    try:
        while True:
            mark, marker, length = struct.unpack_from(">BBH", content, position)
            if mark != 0xFF:
                raise MalformedMessage("the JPEG's segments are broken")
            if marker in _FRAME_MARKERS:
                height, width = struct.unpack_from(">HH", content, position + 5)
                return width, height, position
            # A marker may be preceded by any number of fill bytes.
            position += 1 if marker == 0xFF else 2 + length
    except struct.error:
        raise MalformedMessage("the JPEG ends before its size") from None
