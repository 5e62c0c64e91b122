"""Decode JPEG and PNG files, in the same way in the node and in the engine process."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# As stored: an image turned as EXIF asks would no longer fit its CameraInfo.
_AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


class UndecodableImage(ValueError):
    """A file that does not decode to an image of the size that its header says."""


def decode_bgr(data: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Decode a file, (bytes,) uint8, whose header says that size. Returns BGR (H,W,3) uint8; a
    single channel is repeated, an alpha channel is left out.

    UndecodableImage where it does not decode to that size; MemoryError where memory is short, which
    is no fault of the file.
    """
    try:
        pixels = cv2.imdecode(data, _AS_STORED)
    except cv2.error as error:
        if error.code == cv2.Error.STS_NO_MEM:
            raise MemoryError(f"no memory to decode {width}x{height} pixels") from error
        raise UndecodableImage(f"the compressed image does not decode: {error.err}") from error
    if pixels is None:
        raise UndecodableImage("the compressed image does not decode")
    if pixels.shape != (height, width, 3):
        raise UndecodableImage(
            f"the compressed image decodes to {pixels.shape[1]}x{pixels.shape[0]},"
            f" its header says {width}x{height}"
        )
    return np.asarray(pixels, np.uint8)


def decode_rgb(data: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Decode into ``out``, RGB (H,W,3) uint8, which has the size that the header says; errors as in
    `decode_bgr`."""
    height, width = out.shape[:2]
    cv2.cvtColor(decode_bgr(data, width, height), cv2.COLOR_BGR2RGB, dst=out)
