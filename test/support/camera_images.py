"""Messages of every encoding that a camera may send, made by hand."""

from __future__ import annotations

import array

import numpy as np
from numpy.typing import NDArray
from ros_station import image
from sensor_msgs.msg import Image

from unirestore_ros.msgs.encodings import ENCODINGS


def image_16_bit(
    values: NDArray[np.uint16], encoding: str, padding: int = 0, is_bigendian: bool = False
) -> Image:
    """Values (H,W) of 16 bits in either byte order, each row followed by ``padding`` bytes."""
    stored = values.astype(">u2" if is_bigendian else "<u2")
    rows = stored.reshape(len(values), -1).view(np.uint8)
    message = image(rows, encoding, padding)
    message.width, message.is_bigendian = values.shape[1], int(is_bigendian)
    return message


def image_of_planes(
    luma: NDArray[np.uint8], chroma: NDArray[np.uint8], encoding: str, padding: int = 0
) -> Image:
    """Luma (H,W) and chroma, (H/2,W/2,2) or (H,W,2), whose rows may be padded as the luma's."""
    message = image(luma, encoding, padding)
    rows = chroma.reshape(len(chroma), -1)
    factor = rows.shape[1] // luma.shape[1]
    padded = np.pad(rows, ((0, 0), (0, factor * padding)), constant_values=0xA5)
    message.data += array.array("B", padded.tobytes())
    return message


def image_of_bytes(rgb: NDArray[np.uint8], encoding: str, padding: int = 0) -> Image:
    """A message of RGB (H,W,3); for encodings that RGB does not give, of its bytes as they fall."""
    kind = ENCODINGS[encoding]
    if kind.chroma is not None:
        chroma = rgb[..., 1:] if encoding == "nv24" else rgb[::2, ::2, 1:]
        return image_of_planes(rgb[..., 0], np.ascontiguousarray(chroma), encoding, padding)
    if kind.sample_bytes == 2:
        return image_16_bit(rgb[..., 1].astype(np.uint16) * 16, encoding, padding)
    alpha = np.full((*rgb.shape[:2], 1), 77, np.uint8)
    pixels = {
        "rgb8": rgb,
        "bgr8": rgb[..., ::-1],
        "rgba8": np.dstack([rgb, alpha]),
        "bgra8": np.dstack([rgb[..., ::-1], alpha]),
    }
    falling = rgb[..., 1] if kind.channels == 1 else rgb[..., 1:]
    return image(pixels.get(encoding, falling), encoding, padding)
