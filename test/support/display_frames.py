"""Frames made by hand for tests of the display."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image

from unirestore_ros.display.sources import BufferedFrame
from unirestore_ros.msgs.camera_frame import read_frame
from unirestore_ros.msgs.compressed import encode_jpeg
from unirestore_ros.msgs.encodings import Pixels, image_message


def flat(level: int, size: tuple[int, int] = (64, 48)) -> Pixels:
    """BGR of one level."""
    return np.full((size[1], size[0], 3), level, np.uint8)


def image(pixels: Pixels, stamp_ns: int = 0, encoding: str = "bgr8") -> Image:
    message = image_message(pixels, encoding)
    message.header.stamp = Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    message.header.frame_id = "front"
    return message


def buffered(
    pixels: Pixels, stamp_s: float = 0.0, captured: float = 0.0, number: int = 0, jpeg: bool = False
) -> BufferedFrame:
    message = image(pixels, round(stamp_s * 1e9))
    if jpeg:
        data = encode_jpeg(pixels, 95).tobytes()
        compressed = CompressedImage(header=message.header, format="jpeg", data=data)
        return BufferedFrame(
            read_frame(serialize_message(compressed), True, captured, number), captured
        )
    return BufferedFrame(read_frame(serialize_message(message), False, captured, number), captured)
