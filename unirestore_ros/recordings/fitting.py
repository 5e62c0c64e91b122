"""Decode images of a bag, and make a bag's cameras another size, their CameraInfo with them.

The aspect ratio is kept; what sticks out is cropped evenly.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection

import numpy as np
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo

from unirestore_ros.msgs.camera_frame import CameraFrame, CameraTraits, read_frame
from unirestore_ros.msgs.camera_info import InfoMismatch, scaled_to
from unirestore_ros.msgs.cdr import (
    MalformedMessage,
    new_compressed,
    new_image,
    view_compressed,
    view_image,
)
from unirestore_ros.msgs.compressed import encode_jpeg, jpeg_format
from unirestore_ros.recordings import images
from unirestore_ros.recordings.cameras import find_cameras
from unirestore_ros.recordings.headers import ros_types
from unirestore_ros.recordings.images import Size
from unirestore_ros.recordings.storage import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, Reader

_JPEG_QUALITY = 95
_FEATURES = re.compile(r"32FC(\d+)")

_log = logging.getLogger(__name__)


class Fitter:
    """Makes messages of a bag's cameras another size; leaves all others as they are."""

    def __init__(
        self, reader: Reader, size: Size, topics: Collection[str], assume_encoding: str = ""
    ) -> None:
        self._size = size
        found = find_cameras(reader, assume_encoding=assume_encoding)
        cameras = [camera for camera in found if camera.topic in topics]
        self._images = {camera.topic: camera.compressed for camera in cameras}
        self._traits = {topic: CameraTraits(assume_encoding) for topic in self._images}
        self._infos = {
            camera.info_topic: camera.size for camera in cameras if camera.info_topic is not None
        }
        for camera in cameras:
            words = images.describe_fit(camera.size, size)
            _log.info("%s: %s", camera.topic, words)

    def fit(self, topic: str, data: bytes) -> bytes | None:
        """Return the message at the size asked for; None, with a warning, where it has no image
        that can be read."""
        if topic in self._infos:
            return self._fit_info(topic, data)
        if topic not in self._images:
            return data
        try:
            frame = read_supported(data, self._images[topic], self._traits[topic])
            if (frame.width, frame.height) == self._size:
                return data
            quality = _JPEG_QUALITY if self._images[topic] else None
            return fitted_message(frame, self._size, quality)
        except MalformedMessage as error:
            _log.warning("a frame of %s is left out: %s", topic, error)
            return None

    def _fit_info(self, topic: str, data: bytes) -> bytes | None:
        try:
            return info_bytes(fitted_info(read_info(data), self._infos[topic], self._size))
        except (InfoMismatch, MalformedMessage) as error:
            _log.warning("a CameraInfo of %s is left out: %s", topic, error)
            return None


def read_supported(
    data: bytes, compressed: bool, camera: CameraTraits | None = None
) -> CameraFrame:
    """Read a serialised Image or CompressedImage; MalformedMessage where it has no pixels that can
    be read, also for its encoding. ``camera``: what earlier frames have shown of it."""
    frame = read_frame(data, compressed, 0.0, 0, camera)
    if frame.unsupported is not None:
        raise MalformedMessage(frame.unsupported)
    return frame


def fault_of(kind: str, data: bytes) -> str | None:
    """Say why a serialised image or CameraInfo is not whole; None where it is, or is of another
    type."""
    try:
        if kind == IMAGE:
            image = view_image(data)
            if len(image.data) < image.step * image.height:
                return f"{len(image.data)} bytes of data, not step {image.step} x {image.height}"
        elif kind == COMPRESSED_IMAGE:
            view_compressed(data)
        elif kind == CAMERA_INFO:
            read_info(data)
    except MalformedMessage as error:
        return str(error)
    return None


def decode_message(data: bytes, compressed: bool, camera: CameraTraits | None = None) -> np.ndarray:
    """Decode a serialised Image or CompressedImage to (H, W, 3) uint8 BGR; MalformedMessage where
    that cannot be done. ``camera``: what earlier frames have shown of it."""
    return np.array(_bgr_of(read_supported(data, compressed, camera)))


def decode_features(data: bytes) -> np.ndarray:
    """Decode a serialised feature map to (h, w, c) float32; ValueError for an encoding that is not
    a feature map's."""
    message = view_image(data)
    found = _FEATURES.fullmatch(message.encoding)
    if found is None:
        raise ValueError(f"encoding {message.encoding!r} is not 32FC<channels>")
    shape = message.height, message.width, int(found[1])
    rows = np.frombuffer(message.data, np.float32).reshape(message.height, message.step // 4)
    return rows[:, : shape[1] * shape[2]].reshape(shape)


def encode_message(
    header: tuple[int, int, str], pixels: np.ndarray, jpeg_quality: int | None
) -> bytes:
    """Serialise (H, W, 3) uint8 BGR as a bgr8 Image, or, with a quality, a JPEG CompressedImage;
    ``header``: seconds, nanoseconds, frame_id."""
    if jpeg_quality is not None:
        content = encode_jpeg(pixels, jpeg_quality)
        return new_compressed(*header, jpeg_format("bgr8"), content).tobytes()
    height, width = pixels.shape[:2]
    message, data = new_image(*header, height, width, "bgr8", width * 3)
    data[:] = pixels.reshape(-1)
    return message.tobytes()


def fitted_message(frame: CameraFrame, size: Size, jpeg_quality: int | None = None) -> bytes:
    """Serialise a frame at that size, with its header, as ``encode_message`` does."""
    return encode_message(frame.header_fields, images.fit_image(_bgr_of(frame), size), jpeg_quality)


def _bgr_of(frame: CameraFrame) -> np.ndarray:
    """Decode a frame to (H, W, 3) uint8 BGR; a view of the message where it is so already."""
    return frame.bgr(np.empty((frame.height, frame.width, 3), np.uint8))


def fitted_info(info: CameraInfo, source: Size, target: Size) -> CameraInfo:
    """Adapt CameraInfo of ``source`` size as ``images.fit_image`` does images."""
    if source == target:
        return info
    scaled = images.scaled_size(source, target)
    fitted = scaled_to(info, source, scaled)
    fitted.width, fitted.height = target
    if any(fitted.k):  # zeros say that the camera is not calibrated
        left, top = (scaled[0] - target[0]) // 2, (scaled[1] - target[1]) // 2
        for matrix, row in ((fitted.k, 3), (fitted.p, 4)):
            matrix[2] -= left
            matrix[row + 2] -= top
    return fitted


def read_info(data: bytes) -> CameraInfo:
    """Deserialise a CameraInfo; MalformedMessage where the bytes end early or are not CDR."""
    try:
        message: CameraInfo = deserialize_message(data, CameraInfo)
    except RuntimeError as error:  # of the middleware
        raise MalformedMessage("the CameraInfo is damaged") from error
    return message


def info_bytes(info: CameraInfo) -> bytes:
    """Serialise with zeros between the fields, where Fast CDR leaves what was in memory: the same
    frame makes the same bytes."""
    types = ros_types()
    message = types.deserialize_cdr(serialize_message(info), CAMERA_INFO)
    return bytes(types.serialize_cdr(message, CAMERA_INFO))
