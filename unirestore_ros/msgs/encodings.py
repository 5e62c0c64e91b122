"""The encodings of `sensor_msgs/Image`: pixels to and from RGB and BGR.

Pixels are viewed where they lie and copied once, into the memory they leave from. The encodings
have the meaning that cv_bridge gives them. Rows may have padding (``step`` over the width). Runs on
OpenCV 4 and 5. Pixels are uint8, (H,W) or (H,W,channels).
"""

from __future__ import annotations

import array
from typing import NamedTuple, Protocol, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from unirestore_ros.msgs.cdr import MalformedMessage, UnsupportedFrame

Pixels: TypeAlias = NDArray[np.uint8]

LONGEST_SIDE = 16384


class ImageLike(Protocol):
    """The fields of a `sensor_msgs/Image` that are read."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def encoding(self) -> str: ...
    @property
    def step(self) -> int: ...
    @property
    def data(self) -> array.array[int] | Pixels: ...


class Encoding(NamedTuple):
    """How the bytes of a pixel are read. Conversions are OpenCV's codes; None: no conversion."""

    channels: int
    to_rgb: int | None
    to_bgr: int | None
    even_width: bool = False


# OpenCV names a Bayer pattern by its second row's second and third pixel, ROS by its first row's
# first two: the ROS pattern RGGB is OpenCV's BG. YUV 4:2:2 shares its chroma between two pixels.
_UYVY = Encoding(2, cv2.COLOR_YUV2RGB_UYVY, cv2.COLOR_YUV2BGR_UYVY, even_width=True)
_YUYV = Encoding(2, cv2.COLOR_YUV2RGB_YUY2, cv2.COLOR_YUV2BGR_YUY2, even_width=True)
ENCODINGS = {
    "rgb8": Encoding(3, None, cv2.COLOR_RGB2BGR),
    "bgr8": Encoding(3, cv2.COLOR_BGR2RGB, None),
    "rgba8": Encoding(4, cv2.COLOR_RGBA2RGB, cv2.COLOR_RGBA2BGR),
    "bgra8": Encoding(4, cv2.COLOR_BGRA2RGB, cv2.COLOR_BGRA2BGR),
    "mono8": Encoding(1, cv2.COLOR_GRAY2RGB, cv2.COLOR_GRAY2BGR),
    "bayer_rggb8": Encoding(1, cv2.COLOR_BayerBG2RGB, cv2.COLOR_BayerBG2BGR),
    "bayer_bggr8": Encoding(1, cv2.COLOR_BayerRG2RGB, cv2.COLOR_BayerRG2BGR),
    "bayer_gbrg8": Encoding(1, cv2.COLOR_BayerGR2RGB, cv2.COLOR_BayerGR2BGR),
    "bayer_grbg8": Encoding(1, cv2.COLOR_BayerGB2RGB, cv2.COLOR_BayerGB2BGR),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
}

# Published images keep these encodings; the codes convert to them from RGB.
_FROM_RGB = {
    "rgb8": None,
    "bgr8": cv2.COLOR_RGB2BGR,
    "rgba8": cv2.COLOR_RGB2RGBA,
    "bgra8": cv2.COLOR_RGB2BGRA,
    "mono8": cv2.COLOR_RGB2GRAY,
}
_OTHERS_BECOME = "bgr8"


class ScratchImage:
    """Memory for an image of three channels, kept while the size stays the same. For one thread."""

    def __init__(self) -> None:
        self._pixels = np.empty((0, 0, 3), np.uint8)

    def of_size(self, height: int, width: int) -> Pixels:
        """(H,W,3); its content is whatever was written last."""
        if self._pixels.shape[:2] != (height, width):
            self._pixels = np.empty((height, width, 3), np.uint8)
        return self._pixels


def output_encoding(encoding: str) -> str:
    """Encoding in which an image that came in ``encoding`` is published."""
    return encoding if encoding in _FROM_RGB else _OTHERS_BECOME


def check_image(image: ImageLike) -> None:
    """Raise MalformedMessage where sizes and bytes contradict each other, in any encoding, then
    UnsupportedFrame where the encoding is not known."""
    check_size(image.width, image.height)
    if len(image.data) < image.step * image.height:
        raise MalformedMessage(
            f"{len(image.data)} bytes of data instead of {image.step * image.height}"
            f" (step {image.step} x height {image.height})"
        )
    encoding = ENCODINGS.get(image.encoding)
    if encoding is None:
        raise UnsupportedFrame(f"encoding {image.encoding!r} is not one of {', '.join(ENCODINGS)}")
    if image.step < image.width * encoding.channels:
        raise MalformedMessage(
            f"step {image.step} is under a row's {image.width * encoding.channels} bytes"
            f" (width {image.width}, {image.encoding})"
        )
    if encoding.even_width and image.width % 2:
        raise MalformedMessage(f"width {image.width} is odd in {image.encoding}")


def check_size(width: int, height: int) -> None:
    """Raise MalformedMessage for a size that no camera has."""
    if not (0 < width <= LONGEST_SIDE and 0 < height <= LONGEST_SIDE):
        raise MalformedMessage(f"a size of {width}x{height}")


def view_pixels(image: ImageLike) -> Pixels:
    """A view of the bytes as (H,W) or (H,W,channels), without padding; after `check_image`."""
    channels = ENCODINGS[image.encoding].channels
    flat = np.frombuffer(image.data, np.uint8, image.step * image.height)
    rows = flat.reshape(image.height, image.step)[:, : image.width * channels]
    return rows if channels == 1 else rows.reshape(image.height, image.width, channels)


def to_rgb(image: ImageLike, out: Pixels) -> Pixels:
    """RGB (H,W,3), contiguous: converted into ``out``, or a view where no conversion is needed."""
    pixels = view_pixels(image)
    return _converted(pixels, ENCODINGS[image.encoding].to_rgb, out)


def to_bgr(image: ImageLike, out: Pixels) -> Pixels:
    """BGR (H,W,3), contiguous: converted into ``out``, or a view where no conversion is needed."""
    pixels = view_pixels(image)
    return _converted(pixels, ENCODINGS[image.encoding].to_bgr, out)


def from_rgb(rgb: Pixels, encoding: str, out: Pixels) -> None:
    """Write RGB (H,W,3) into ``out`` in one of the encodings that are published."""
    code = _FROM_RGB[encoding]
    if code is None:
        np.copyto(out, rgb)
    else:
        cv2.cvtColor(rgb, code, dst=out)


def copy_alpha(image: ImageLike, out: Pixels) -> None:
    """Give ``out`` the alpha channel of the message it was made from, where both have one."""
    if out.ndim == 3 and out.shape[2] == 4:
        out[..., 3] = view_pixels(image)[..., 3]


def image_message(pixels: Pixels, encoding: str) -> Image:
    """A message object of pixels (H,W) or (H,W,channels) that are in ``encoding`` already."""
    height, width = pixels.shape[:2]
    message = Image(height=height, width=width, encoding=encoding)
    message.step = width * ENCODINGS[encoding].channels
    message.data.frombytes(np.ascontiguousarray(pixels).data)
    return message


def _converted(pixels: Pixels, code: int | None, out: Pixels) -> Pixels:
    if code is not None:
        cv2.cvtColor(pixels, code, dst=out)
        return out
    if pixels.flags.c_contiguous:
        return pixels
    np.copyto(out, pixels)
    return out
