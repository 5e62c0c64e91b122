"""Camera frames and their CameraInfo at another size: aspect kept, what sticks out cropped."""

from __future__ import annotations

import numpy as np
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo

from unirestore_ros.msgs.camera_frame import CameraFrame, read_frame
from unirestore_ros.msgs.camera_info import scaled_to
from unirestore_ros.msgs.cdr import new_compressed, new_image
from unirestore_ros.msgs.compressed import encode_jpeg, jpeg_format
from unirestore_ros.recordings import scaling
from unirestore_ros.recordings.scaling import Size
from unirestore_ros.recordings.storage import CAMERA_INFO, ros_types

_JPEG_QUALITY = 95


def bgr_of(frame: CameraFrame) -> np.ndarray:
    """(H, W, 3) uint8 BGR."""
    return frame.bgr(np.empty((frame.height, frame.width, 3), np.uint8))


def fitted_image(frame: CameraFrame, size: Size) -> bytes:
    """The frame as a serialised bgr8 Image of that size, with its header."""
    pixels = scaling.fit(bgr_of(frame), size)
    message, data = new_image(*frame.header_fields, size[1], size[0], "bgr8", size[0] * 3)
    data[:] = pixels.reshape(-1)
    return message.tobytes()


def fitted_compressed(frame: CameraFrame, size: Size) -> bytes:
    """The frame as a serialised JPEG CompressedImage of that size, with its header."""
    pixels = scaling.fit(bgr_of(frame), size)
    content = encode_jpeg(pixels, _JPEG_QUALITY)
    return new_compressed(*frame.header_fields, jpeg_format("bgr8"), content).tobytes()


def fitted_frame(frame: CameraFrame, size: Size) -> CameraFrame:
    """The frame in bgr8 at that size; itself where it has it."""
    if (frame.width, frame.height) == size:
        return frame
    return read_frame(fitted_image(frame, size), False, frame.arrived, frame.number)


def fitted_info(info: CameraInfo, source: Size, target: Size) -> CameraInfo:
    """CameraInfo of images of ``source`` size once ``scaling.fit`` has made them ``target``."""
    if source == target:
        return info
    scaled = scaling.scaled_size(source, target)
    fitted = scaled_to(info, source, scaled)
    fitted.width, fitted.height = target
    if any(fitted.k):  # zeros say that the camera is not calibrated
        left, top = (scaled[0] - target[0]) // 2, (scaled[1] - target[1]) // 2
        for matrix, row in ((fitted.k, 3), (fitted.p, 4)):
            matrix[2] -= left
            matrix[row + 2] -= top
    return fitted


def read_info(data: bytes) -> CameraInfo:
    message: CameraInfo = deserialize_message(data, CameraInfo)
    return message


def info_bytes(info: CameraInfo) -> bytes:
    """Serialised with zeros between the fields, where Fast CDR leaves what was in memory: the same
    frame makes the same bytes."""
    types = ros_types()
    message = types.deserialize_cdr(serialize_message(info), CAMERA_INFO)
    return bytes(types.serialize_cdr(message, CAMERA_INFO))
