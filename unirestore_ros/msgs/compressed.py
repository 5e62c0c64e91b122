"""JPEG and PNG in `sensor_msgs/CompressedImage`, as image_transport uses them.

What a file decodes to is known from its header, and is checked before anything is decoded: a PNG of
some kilobytes may unpack to gigabytes.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

import cv2
import numpy as np

from unirestore_ros.decoding import UndecodableImage, decode_bgr
from unirestore_ros.msgs.cdr import MalformedMessage, UnsupportedFrame
from unirestore_ros.msgs.encodings import Pixels, check_size

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND"
_JPEG = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
# JPEG markers that start a frame (ITU-T T.81, table B.1): all of 0xC0..0xCF but DHT, JPG and DAC.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# A camera's file has some ten before its frame; a hostile one may have millions.
_MOST_SEGMENTS = 4096

LONGEST_DECODED_SIDE = 4096
# A JPEG all of one colour has nearly 64 pixels a byte with the standard's tables.
MOST_PIXELS_A_BYTE = 64
# A smaller image does no harm, however few bytes it comes in: a simulator's black frame as PNG.
ALWAYS_DECODED_PIXELS = 640 * 480
# The largest image takes 64 MiB uncompressed, with its alpha channel. The engine process keeps the
# memory that a file has taken.
MOST_FILE_BYTES = 80 << 20

_CHOOSE_COLOUR = "choose the camera's colour topic"
# A format of ours, and not of JPEG XL or JPEG 2000.
_NAMES_OURS = re.compile(r"\b(jpe?g|png)\b", re.IGNORECASE)
# Words in a format, and the plugin of image_transport that decodes such messages.
_TRANSPORTS = (
    (("h264", "h265", "hevc", "avc", "av1", "vp8", "vp9", "mpeg", "ffmpeg"), "ffmpeg"),
    (("theora",), "theora"),
    (("zstd",), "zstd"),
)


class _Head(NamedTuple):
    """What a file says of itself before its pixels."""

    width: int
    height: int
    end: int
    """Offset behind it."""
    bits: int
    """Bits of one sample."""


def compressed_size(data: Pixels, kind: str = "") -> tuple[int, int]:
    """Read (width, height) from the file's header, without decoding it. ``data``: (bytes,) uint8;
    ``kind``: the message's format.

    Raises MalformedMessage where the file is not what the format says, is cut off or cannot hold
    that many pixels, UnsupportedFrame where it is no JPEG or 8-bit PNG of a picture, or larger than
    4096x4096.
    """
    if _is_depth(kind):
        raise UnsupportedFrame(f"format {kind!r} is a depth image, no picture: {_CHOOSE_COLOUR}")
    content = data.tobytes()
    if content.startswith(_PNG):
        head, end = _png_head(content), _PNG_END
    elif content.startswith(_JPEG):
        head, end = _jpeg_head(content), _JPEG_END
    elif _NAMES_OURS.search(kind):
        raise MalformedMessage(
            f"the {len(content)} bytes of a compressed image of format {kind!r} are no JPEG and no"
            " PNG"
        )
    else:
        raise UnsupportedFrame(_other_codec(kind))
    _check_head(head, len(content))
    if content.rfind(end, head.end) < 0:
        raise MalformedMessage("the compressed image is cut off")
    return head.width, head.height


def decode(data: Pixels, width: int, height: int) -> Pixels:
    """Decode a file whose header says that size, in this process; returns BGR (H,W,3) uint8.

    MalformedMessage where it does not decode to that size, or there is no memory for it.
    """
    try:
        return decode_bgr(data, width, height)
    except (UndecodableImage, MemoryError) as error:
        raise MalformedMessage(str(error)) from error


def encode_jpeg(pixels: Pixels, quality: int) -> Pixels:
    """Encode BGR (H,W,3) or grey (H,W) uint8 pixels; returns the file, (bytes,) uint8."""
    _, content = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, quality))
    return np.asarray(content, np.uint8).reshape(-1)


def jpeg_format(encoding: str) -> str:
    """Return the ``format`` of a `CompressedImage`: the raw image's encoding, which image_transport
    restores when it decodes, and the encoding of the pixels in the file."""
    return f"{encoding}; jpeg compressed {'mono8' if encoding == 'mono8' else 'bgr8'}"


def _is_depth(kind: str) -> bool:
    """Tell whether a format names one that image_transport has for depth, such as
    `16UC1; compressedDepth png`."""
    return "compresseddepth" in kind.lower() or kind.startswith(("16UC1", "32FC1"))


def _other_codec(kind: str) -> str:
    """Say why a codec is refused, with the command that makes raw images of it."""
    name = kind.lower()
    transport = next((each for words, each in _TRANSPORTS if any(w in name for w in words)), "")
    transport = transport or "compressed"
    return (
        f"format {kind!r} is neither JPEG nor 8-bit PNG: set input_transport to raw and run ros2"
        f" run image_transport republish --ros-args -p in_transport:={transport}"
        f" -p out_transport:=raw -r in/{transport}:=CAMERA_TOPIC -r out:=IMAGE (on Humble republish"
        f" {transport} raw without the two parameters)"
    )


def _check_head(head: _Head, length: int) -> None:
    width, height = head.width, head.height
    check_size(width, height)
    if length > MOST_FILE_BYTES:
        raise MalformedMessage(f"a compressed image of {length} bytes")
    if head.bits > 8:
        raise UnsupportedFrame(
            f"a PNG of {head.bits} bits is a depth image or a measurement, no picture:"
            f" {_CHOOSE_COLOUR}"
        )
    if max(width, height) > LONGEST_DECODED_SIDE:
        raise UnsupportedFrame(
            f"a compressed image of {width}x{height} is not decoded: at most"
            f" {LONGEST_DECODED_SIDE}x{LONGEST_DECODED_SIDE} is"
        )
    if width * height > max(MOST_PIXELS_A_BYTE * length, ALWAYS_DECODED_PIXELS):
        raise MalformedMessage(
            f"a compressed image of {length} bytes that says it has {width}x{height} pixels"
        )


def _png_head(content: bytes) -> _Head:
    try:
        kind, width, height, bits = struct.unpack_from(">4sIIB", content, len(_PNG) + 4)
    except struct.error:
        raise MalformedMessage("the PNG ends before its size") from None
    if kind != b"IHDR":
        raise MalformedMessage("the PNG does not start with its size")
    return _Head(width, height, len(_PNG) + 16, bits)


def _jpeg_head(content: bytes) -> _Head:
    """Read the frame's own header; a thumbnail's header lies before it."""
    position = len(_JPEG)
    try:
        for _ in range(_MOST_SEGMENTS):
            mark, marker, length = struct.unpack_from(">BBH", content, position)
            if mark != 0xFF:
                raise MalformedMessage("the JPEG's segments are broken")
            if marker in _FRAME_MARKERS:
                height, width = struct.unpack_from(">HH", content, position + 5)
                return _Head(width, height, position, 8)
            # A marker may be preceded by any number of fill bytes.
            position += 1 if marker == 0xFF else 2 + length
    except struct.error:
        raise MalformedMessage("the JPEG ends before its size") from None
    raise MalformedMessage(f"the JPEG has more than {_MOST_SEGMENTS} segments before its size")
