"""Camera mode: every frame goes out at once, its pixels as the camera made them."""

from __future__ import annotations

import numpy as np

from unirestore_ros.msgs.camera_frame import CameraFrame
from unirestore_ros.msgs.frame_messages import FrameMessages, Picture
from unirestore_ros.node.outputs import Demand, Outputs


class CameraRelay:
    """Sends camera frames to the driver's topics.

    A frame that needs no change is sent as the bytes it came in. Raises MalformedMessage where a
    compressed frame does not decode.
    """

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self._make = FrameMessages()

    def send(self, frame: CameraFrame, demand: Demand, jpeg_quality: int) -> bool:
        """False where nothing that is wanted can be made of the frame."""
        as_image = demand.image and frame.is_publishable
        as_jpeg = demand.compressed and frame.is_compressed
        if as_image:
            self._outputs.image.send(np.frombuffer(frame.message, np.uint8))
        if as_jpeg:
            self._outputs.compressed.send(np.frombuffer(frame.message, np.uint8))
        convert = demand.image and not as_image
        compress = demand.compressed and not as_jpeg
        if frame.unsupported is not None or not (convert or compress):
            return as_image or as_jpeg
        picture = Picture(frame)
        if convert:
            self._outputs.image.send(picture.message)
        if compress:
            self._outputs.compressed.send(self._make.jpeg(picture, jpeg_quality))
        return True
