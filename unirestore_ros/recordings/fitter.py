"""A bag's cameras at another size, message by message: images fitted, calibration with them."""

from __future__ import annotations

import logging
from collections.abc import Collection

from rosbags.rosbag2 import Reader

from unirestore_ros.msgs.camera_frame import read_frame
from unirestore_ros.msgs.cdr import MalformedMessage
from unirestore_ros.recordings import scaling
from unirestore_ros.recordings.cameras import find_cameras
from unirestore_ros.recordings.fitting import (
    fitted_compressed,
    fitted_image,
    fitted_info,
    info_bytes,
    read_info,
)
from unirestore_ros.recordings.scaling import Size

_log = logging.getLogger(__name__)


class Fitter:
    """Knows which topics are images and calibrations of cameras, and says what it does to them."""

    def __init__(self, reader: Reader, size: Size, topics: Collection[str]) -> None:
        self._size = size
        cameras = [camera for camera in find_cameras(reader) if camera.topic in topics]
        self._images = {camera.topic: camera.compressed for camera in cameras}
        self._infos = {
            camera.info_topic: camera.size for camera in cameras if camera.info_topic is not None
        }
        for camera in cameras:
            words = scaling.description(camera.size, size, "the size asked for")
            _log.info("%s: %s", camera.topic, words)

    def fit(self, topic: str, data: bytes) -> bytes | None:
        """The message at the size asked for; None, and a warning, where it has no image to fit."""
        if topic in self._infos:
            return info_bytes(fitted_info(read_info(data), self._infos[topic], self._size))
        if topic not in self._images:
            return data
        try:
            frame = read_frame(data, self._images[topic], 0.0, 0)
            if frame.unsupported is not None:
                raise MalformedMessage(frame.unsupported)
            if (frame.width, frame.height) == self._size:
                return data
            if self._images[topic]:
                return fitted_compressed(frame, self._size)
            return fitted_image(frame, self._size)
        except MalformedMessage as error:
            _log.warning("a frame of %s is left out: %s", topic, error)
            return None
