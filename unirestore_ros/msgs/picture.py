"""A picture on its way out: an image message whose pixels are written in place, and its JPEG."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from unirestore_ros.msgs.camera_frame import CameraFrame
from unirestore_ros.msgs.cdr import Bytes, new_compressed, new_image
from unirestore_ros.msgs.compressed import encode_jpeg, jpeg_format
from unirestore_ros.msgs.image_conversion import ENCODINGS, Pixels, ScratchImage


class Picture:
    """An image of a frame's size, with its header, in the encoding in which it is published."""

    def __init__(self, frame: CameraFrame) -> None:
        height, width, encoding = frame.height, frame.width, frame.encoding
        channels = ENCODINGS[encoding].channels
        step = width * channels
        self.message, data = new_image(*frame.header_fields, height, width, encoding, step)
        shape = (height, width) if channels == 1 else (height, width, channels)
        self.pixels: Pixels = data.reshape(shape)
        """To be written, before the message is sent."""
        self._frame = frame

    def jpeg(self, quality: int, scratch: ScratchImage) -> Bytes:
        """The same as a `CompressedImage`."""
        frame, pixels = self._frame, self.pixels
        to_bgr = ENCODINGS[frame.encoding].to_bgr
        if to_bgr is not None and pixels.ndim == 3:
            bgr = scratch.of(frame.height, frame.width)
            pixels = np.asarray(cv2.cvtColor(pixels, to_bgr, dst=bgr))
        kind = jpeg_format(frame.encoding)
        return new_compressed(*frame.header_fields, kind, encode_jpeg(pixels, quality))


def feature_message(frame: CameraFrame, features: NDArray[np.float32]) -> Bytes:
    """Features (h,w,c) as a serialised image of c channels, with the frame's header."""
    height, width, channels = features.shape
    encoding, step = f"32FC{channels}", width * channels * features.itemsize
    message, data = new_image(*frame.header_fields, height, width, encoding, step)
    np.copyto(data.view(np.float32).reshape(features.shape), features)
    return message
