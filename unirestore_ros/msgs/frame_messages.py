"""The messages of a restored frame: what the node publishes, and `bag restore` writes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo

from unirestore_ros.msgs.camera_frame import CameraFrame
from unirestore_ros.msgs.camera_info import scaled_to, with_header
from unirestore_ros.msgs.cdr import Bytes, new_compressed, new_image
from unirestore_ros.msgs.compressed import encode_jpeg, jpeg_format
from unirestore_ros.msgs.encodings import ENCODINGS, Pixels, ScratchImage


class FrameImage:
    """An image of a frame's size, with its header, in the encoding in which it is published."""

    def __init__(self, frame: CameraFrame, restored: Pixels | None, scratch: ScratchImage) -> None:
        height, width, encoding = frame.height, frame.width, frame.encoding
        channels = ENCODINGS[encoding].channels
        step = width * channels
        self.message, data = new_image(*frame.header_fields, height, width, encoding, step)
        """Serialised `sensor_msgs/Image`, (bytes,) uint8; the pixels are a part of it."""
        self._pixels = data.reshape((height, width) if channels == 1 else (height, width, channels))
        self._frame, self._scratch = frame, scratch
        if restored is None:
            frame.write_camera(self._pixels)
        else:
            frame.write_restored(restored, self._pixels)

    def jpeg(self, quality: int) -> Bytes:
        """The same as a serialised `sensor_msgs/CompressedImage`, (bytes,) uint8; ``quality`` in
        percent."""
        frame, pixels = self._frame, self._pixels
        to_bgr = ENCODINGS[frame.encoding].to_bgr
        if to_bgr is not None and pixels.ndim == 3:
            bgr = self._scratch.of_size(frame.height, frame.width)
            pixels = np.asarray(cv2.cvtColor(pixels, to_bgr, dst=bgr))
        kind = jpeg_format(frame.encoding)
        return new_compressed(*frame.header_fields, kind, encode_jpeg(pixels, quality))


class FrameMessages:
    """Makes the messages of one frame after another, in memory that it keeps. For one thread."""

    def __init__(self) -> None:
        self._rgb = ScratchImage()
        self._bgr = ScratchImage()
        self._info = self._scaled = CameraInfo()
        self._sizes = (0, 0), (0, 0)

    def rgb(self, frame: CameraFrame) -> Pixels:
        """RGB (H,W,3) uint8, valid until the next call; MalformedMessage where it does not
        decode."""
        return frame.rgb(self._rgb.of_size(frame.height, frame.width))

    def image(self, frame: CameraFrame, restored: Pixels | None = None) -> FrameImage:
        """The image of ``restored``, RGB (H,W,3) uint8; without it, of the camera's own pixels, and
        then MalformedMessage is raised where they do not decode."""
        return FrameImage(frame, restored, self._bgr)

    def features(self, frame: CameraFrame, features: NDArray[np.float32]) -> Bytes:
        """Features (h,w,c) as a serialised `sensor_msgs/Image` of c channels."""
        height, width, channels = features.shape
        encoding, step = f"32FC{channels}", width * channels * features.itemsize
        message, data = new_image(*frame.header_fields, height, width, encoding, step)
        np.copyto(data.view(np.float32).reshape(features.shape), features)
        return message

    def camera_info(self, frame: CameraFrame, info: CameraInfo) -> CameraInfo:
        """The camera's CameraInfo for this frame."""
        return with_header(info, frame.header())

    def feature_info(
        self, frame: CameraFrame, info: CameraInfo, map_size: tuple[int, int]
    ) -> CameraInfo:
        """The CameraInfo of this frame's feature maps; ``map_size`` is (width, height)."""
        # The camera's calibration is scaled once, not for each frame and task: it rarely changes.
        sizes = (frame.width, frame.height), map_size
        if self._info is not info or self._sizes != sizes:
            self._info, self._sizes = info, sizes
            self._scaled = scaled_to(info, *sizes)
        return with_header(self._scaled, frame.header())
