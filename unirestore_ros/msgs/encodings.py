"""The encodings of `sensor_msgs/Image`: pixels to and from RGB and BGR.

Pixels are viewed where they lie and copied once, into the memory they leave from. The encodings
have the meaning that cv_bridge gives them. Rows may have padding (``step`` over the width); a
``step`` of 0 means that they have none. Runs on OpenCV 4 and 5. Pixels are uint8, (H,W) or
(H,W,channels).
"""

from __future__ import annotations

import array
import threading
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
    def is_bigendian(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def data(self) -> array.array[int] | Pixels: ...


class Chroma(NamedTuple):
    """The plane of U and V that follows a plane of luma, relative to that plane."""

    rows: float
    row_bytes: int


class Encoding(NamedTuple):
    """How the bytes of a pixel are read. Conversions are OpenCV's codes; None: no conversion."""

    channels: int
    to_rgb: int | None
    to_bgr: int | None
    even_width: bool = False
    sample_bytes: int = 1
    chroma: Chroma | None = None


# OpenCV names a Bayer pattern by its second row's second and third pixel, ROS by its first row's
# first two: the ROS pattern RGGB is OpenCV's BG. YUV 4:2:2 shares its chroma between two pixels.
_UYVY = Encoding(2, cv2.COLOR_YUV2RGB_UYVY, cv2.COLOR_YUV2BGR_UYVY, even_width=True)
_YUYV = Encoding(2, cv2.COLOR_YUV2RGB_YUY2, cv2.COLOR_YUV2BGR_YUY2, even_width=True)
_4_2_0, _4_4_4 = Chroma(rows=0.5, row_bytes=1), Chroma(rows=1.0, row_bytes=2)
_NV12 = Encoding(1, cv2.COLOR_YUV2RGB_NV12, cv2.COLOR_YUV2BGR_NV12, even_width=True, chroma=_4_2_0)
_NV21 = Encoding(1, cv2.COLOR_YUV2RGB_NV21, cv2.COLOR_YUV2BGR_NV21, even_width=True, chroma=_4_2_0)
_BAYER = {
    "bayer_rggb": (cv2.COLOR_BayerBG2RGB, cv2.COLOR_BayerBG2BGR),
    "bayer_bggr": (cv2.COLOR_BayerRG2RGB, cv2.COLOR_BayerRG2BGR),
    "bayer_gbrg": (cv2.COLOR_BayerGR2RGB, cv2.COLOR_BayerGR2BGR),
    "bayer_grbg": (cv2.COLOR_BayerGB2RGB, cv2.COLOR_BayerGB2BGR),
}
ENCODINGS = {
    "rgb8": Encoding(3, None, cv2.COLOR_RGB2BGR),
    "bgr8": Encoding(3, cv2.COLOR_BGR2RGB, None),
    "rgba8": Encoding(4, cv2.COLOR_RGBA2RGB, cv2.COLOR_RGBA2BGR),
    "bgra8": Encoding(4, cv2.COLOR_BGRA2RGB, cv2.COLOR_BGRA2BGR),
    "mono8": Encoding(1, cv2.COLOR_GRAY2RGB, cv2.COLOR_GRAY2BGR),
    "mono16": Encoding(1, cv2.COLOR_GRAY2RGB, cv2.COLOR_GRAY2BGR, sample_bytes=2),
    **{f"{name}8": Encoding(1, *codes) for name, codes in _BAYER.items()},
    **{f"{name}16": Encoding(1, *codes, sample_bytes=2) for name, codes in _BAYER.items()},
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": _NV12,
    "nv21": _NV21,
    # OpenCV has no conversion for it: `_pairs_of_nv24` makes what these codes convert.
    "nv24": Encoding(1, cv2.COLOR_YUV2RGB_UYVY, cv2.COLOR_YUV2BGR_UYVY, chroma=_4_4_4),
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
# Encodings that say how many channels there are, but not of which colour; 0: not even that.
_NAMELESS = {"8UC1": 1, "8UC3": 3, "8UC4": 4, "": 0}
_MEASUREMENTS = ("16U", "16S", "32S", "32F", "64F")
ASSUMABLE = ("", *(name for name, each in ENCODINGS.items() if each.sample_bytes == 1))
"""Values of the parameter ``assume_encoding``."""


class SensorPeak:
    """The highest value that a camera's 16-bit pixels have shown, which is made white.

    Sensors of 10, 12 or 14 bits send their values in 16 bits and do not say how many they have. The
    peak never falls, so that a dark frame after a bright one stays dark. Any thread may use it.
    """

    def __init__(self) -> None:
        self.value = 255
        self._lock = threading.Lock()

    def observe(self, values: NDArray[np.uint16]) -> int:
        """Raise the peak to the highest of the values (H,W); returns the peak."""
        highest = int(values.max())
        with self._lock:
            self.value = max(self.value, highest)
            return self.value

    def scale(self, values: NDArray[np.uint16]) -> Pixels:
        """Scale (H,W) to uint8 after observing them."""
        return np.asarray(cv2.convertScaleAbs(values, alpha=255 / self.observe(values)))


class ScratchImage:
    """Memory for an image of three channels, kept while the size stays the same. For one thread."""

    def __init__(self) -> None:
        self._pixels = np.empty((0, 0, 3), np.uint8)

    def of_size(self, height: int, width: int) -> Pixels:
        """Return memory (H,W,3); its content is whatever was written last."""
        if self._pixels.shape[:2] != (height, width):
            self._pixels = np.empty((height, width, 3), np.uint8)
        return self._pixels


def output_encoding(encoding: str) -> str:
    """Return the encoding in which an image that came in ``encoding`` is published."""
    return encoding if encoding in _FROM_RGB else _OTHERS_BECOME


def named_encoding(encoding: str, assumed: str) -> str:
    """Return ``encoding``, or what the user says of one that does not name its colours.

    Raises UnsupportedFrame, with what to set, where ``assumed`` is empty or does not fit.
    """
    if encoding not in _NAMELESS:
        return encoding
    if assumed not in _fitting(encoding):
        raise UnsupportedFrame(_ask_for_colours(encoding, assumed))
    return assumed


def _fitting(nameless: str) -> list[str]:
    """Return the encodings that a nameless one may mean."""
    channels = _NAMELESS[nameless]
    return [name for name in ASSUMABLE if name and _may_be(name, channels)]


def _ask_for_colours(encoding: str, assumed: str) -> str:
    but = f", which {assumed!r} does not fit" if assumed else ""
    return (
        f"encoding {encoding!r} does not say what its colours are{but}: set assume_encoding to"
        f" what the camera sends ({', '.join(_fitting(encoding))})"
    )


def _may_be(name: str, channels: int) -> bool:
    encoding = ENCODINGS[name]
    return not channels or (encoding.channels == channels and encoding.chroma is None)


def check_image(image: ImageLike) -> None:
    """Raise MalformedMessage where sizes and bytes contradict each other, in any encoding, then
    UnsupportedFrame where the encoding is not known."""
    check_size(image.width, image.height)
    encoding = ENCODINGS.get(image.encoding)
    if encoding is not None:
        row_step(image)
        _check_even(image, encoding)
        return
    check_length(image)
    if (why := refusal_of(image.encoding)) is not None:
        raise UnsupportedFrame(why)


def refusal_of(encoding: str) -> str | None:
    """Say why images of an encoding are not restored, and what to do; None where they are."""
    if encoding in ENCODINGS:
        return None
    if encoding in _NAMELESS:
        return _ask_for_colours(encoding, "")
    if encoding.startswith(_MEASUREMENTS):
        return (
            f"encoding {encoding!r} is depth or another measurement, no picture: choose the"
            " camera's colour topic, or have its driver send mono16"
        )
    return (
        f"encoding {encoding!r} is not one of {', '.join(ENCODINGS)}: have the camera's driver send"
        " one of them"
    )


def check_length(image: ImageLike) -> None:
    """Raise MalformedMessage where an image of any encoding has too few bytes or an absurd size."""
    check_size(image.width, image.height)
    if len(image.data) < image.step * image.height:
        raise _short(image, image.step * image.height)


def check_size(width: int, height: int) -> None:
    """Raise MalformedMessage for a size that no camera has."""
    if not (0 < width <= LONGEST_SIDE and 0 < height <= LONGEST_SIDE):
        raise MalformedMessage(f"a size of {width}x{height}")


def row_step(image: ImageLike) -> int:
    """Return the bytes from one row to the next (of the luma, where there is a plane of it), in an
    encoding that is known; MalformedMessage where the data do not hold that many rows."""
    encoding = ENCODINGS[image.encoding]
    least = image.width * encoding.channels * encoding.sample_bytes
    if _is_packed(image, encoding, least):
        return least
    if image.step < least:
        raise MalformedMessage(
            f"step {image.step} is under a row's {least} bytes"
            f" (width {image.width}, {image.encoding})"
        )
    needed = _bytes_of(encoding, image.step, image.height)
    if len(image.data) < needed:
        raise _short(image, needed)
    return image.step


def _check_even(image: ImageLike, encoding: Encoding) -> None:
    """Raise MalformedMessage where pixels that share their chroma are one too few."""
    if encoding.even_width and image.width % 2:
        raise MalformedMessage(f"width {image.width} is odd in {image.encoding}")
    if encoding.chroma == _4_2_0 and image.height % 2:
        raise MalformedMessage(f"height {image.height} is odd in {image.encoding}")


def _is_packed(image: ImageLike, encoding: Encoding, least: int) -> bool:
    """Tell whether the rows have no padding although ``step`` says otherwise: it is 0, or it counts
    the chroma that belongs to a row, as some drivers do where that lies in a plane of its own."""
    needed, length = _bytes_of(encoding, least, image.height), len(image.data)
    if image.step == 0:
        return length >= needed
    counted = encoding.chroma is not None and image.step in (3 * least // 2, 2 * least, 3 * least)
    return counted and length == needed


def _bytes_of(encoding: Encoding, step: int, height: int) -> int:
    chroma = encoding.chroma
    extra = 0 if chroma is None else round(height * chroma.rows) * step * chroma.row_bytes
    return step * height + extra


def _short(image: ImageLike, needed: int) -> MalformedMessage:
    return MalformedMessage(
        f"{len(image.data)} bytes of data instead of {needed}"
        f" (step {image.step} x height {image.height}, {image.encoding})"
    )


def view_pixels(image: ImageLike) -> Pixels:
    """View the bytes as (H,W) or (H,W,channels), without padding; after `check_image`. For
    encodings of 8 bits in one plane."""
    channels, step = ENCODINGS[image.encoding].channels, row_step(image)
    flat = np.frombuffer(image.data, np.uint8, step * image.height)
    rows = flat.reshape(image.height, step)[:, : image.width * channels]
    return rows if channels == 1 else rows.reshape(image.height, image.width, channels)


def view_16_bit(image: ImageLike) -> NDArray[np.uint16]:
    """View the values (H,W) of an encoding of 16 bits, in this machine's byte order."""
    order = np.dtype(">u2" if image.is_bigendian else "<u2")
    shape, strides = (image.height, image.width), (row_step(image), 2)
    flat = np.frombuffer(image.data, np.uint8)
    values: NDArray[np.uint16] = np.ndarray(shape, order, flat, strides=strides)
    # OpenCV takes neither foreign byte order nor odd addresses.
    return np.require(values, np.uint16, "A")


def observe_peak(image: ImageLike, peak: SensorPeak) -> None:
    """Let the peak grow by an image that is not converted; does nothing for encodings of 8 bits."""
    if ENCODINGS[image.encoding].sample_bytes == 2:
        peak.observe(view_16_bit(image))


def to_rgb(image: ImageLike, out: Pixels, peak: SensorPeak | None = None) -> Pixels:
    """Return RGB (H,W,3), contiguous: converted into ``out``, or a view where no conversion is
    needed.

    ``peak`` is the camera's, for encodings of 16 bits; without it, that of this image.
    """
    return _converted(image, ENCODINGS[image.encoding].to_rgb, out, peak)


def to_bgr(image: ImageLike, out: Pixels, peak: SensorPeak | None = None) -> Pixels:
    """Return BGR (H,W,3), contiguous, as `to_rgb`."""
    return _converted(image, ENCODINGS[image.encoding].to_bgr, out, peak)


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
    """Make a message object of pixels (H,W) or (H,W,channels) that are in ``encoding`` already."""
    height, width = pixels.shape[:2]
    message = Image(height=height, width=width, encoding=encoding)
    message.step = width * ENCODINGS[encoding].channels
    message.data.frombytes(np.ascontiguousarray(pixels).data)
    return message


def _converted(image: ImageLike, code: int | None, out: Pixels, peak: SensorPeak | None) -> Pixels:
    encoding = ENCODINGS[image.encoding]
    if encoding.chroma is not None and code is not None:
        return _planes_converted(image, encoding.chroma, code, out)
    if encoding.sample_bytes == 2:
        pixels = (peak or SensorPeak()).scale(view_16_bit(image))
    else:
        pixels = view_pixels(image)
    if code is not None:
        cv2.cvtColor(pixels, code, dst=out)
        return out
    if pixels.flags.c_contiguous:
        return pixels
    np.copyto(out, pixels)
    return out


def _planes_converted(image: ImageLike, chroma: Chroma, code: int, out: Pixels) -> Pixels:
    if chroma == _4_2_0:
        cv2.cvtColorTwoPlane(*_planes(image, chroma), code, dst=out)
    else:
        wide, size = cv2.cvtColor(_pairs_of_nv24(image), code), (image.width, image.height)
        cv2.resize(wide, size, dst=out, interpolation=cv2.INTER_NEAREST)
    return out


def _planes(image: ImageLike, chroma: Chroma) -> tuple[Pixels, Pixels]:
    """View luma (H,W) and chroma, (H/2,W/2,2) for 4:2:0 and (H,W,2) for 4:4:4."""
    step, flat = row_step(image), np.frombuffer(image.data, np.uint8)
    height, width = image.height, image.width
    luma: Pixels = np.ndarray((height, width), np.uint8, flat, strides=(step, 1))
    shape = round(height * chroma.rows), width * chroma.row_bytes // 2, 2
    strides = step * chroma.row_bytes, 2, 1
    return luma, np.ndarray(shape, np.uint8, flat, offset=step * height, strides=strides)


def _pairs_of_nv24(image: ImageLike) -> Pixels:
    """Rewrite 4:4:4 as 4:2:2 of twice the width, (H,2W,2) of U Y V Y: each pixel twice, with its
    own chroma."""
    luma, chroma = _planes(image, _4_4_4)
    u, v = cv2.split(chroma)
    pairs = np.asarray(cv2.merge((u, luma, v, luma)), np.uint8)
    return pairs.reshape(image.height, 2 * image.width, 2)
