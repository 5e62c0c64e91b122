"""Serialised messages read and written in place, against what ROS itself reads and writes."""

from __future__ import annotations

import array
import struct
import sys

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from ros_station import image
from sensor_msgs.msg import CompressedImage, Image

from unirestore_ros.msgs.cdr import (
    MalformedMessage,
    new_compressed,
    new_image,
    view_compressed,
    view_image,
)


def message(frame_id: str, encoding: str = "bgr8") -> Image:
    sent = image(np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3), encoding, padding=2)
    sent.header.frame_id = frame_id
    sent.header.stamp.sec, sent.header.stamp.nanosec = -3, 999_999_999
    return sent


# Every alignment of the numbers after a text.
@pytest.mark.parametrize("frame_id", ["", "a", "ab", "abc", "abcd", "kamera_röhre"])
@pytest.mark.parametrize("encoding", ["", "bgr8", "rgba8", "mono16"])
def test_image(frame_id: str, encoding: str) -> None:
    sent = message(frame_id, encoding)
    view = view_image(serialize_message(sent))
    assert (view.sec, view.nanosec, view.frame_id) == (-3, 999_999_999, frame_id)
    assert (view.height, view.width, view.encoding, view.step) == (5, 7, encoding, 23)
    assert view.data.tobytes() == sent.data.tobytes()


@pytest.mark.parametrize("frame_id", ["", "a", "ab", "abc"])
def test_compressed(frame_id: str) -> None:
    sent = CompressedImage(format="jpeg", data=array.array("B", b"\xff\xd8 what ever"))
    sent.header.frame_id = frame_id
    view = view_compressed(serialize_message(sent))
    assert (view.frame_id, view.format) == (frame_id, "jpeg")
    assert view.data.tobytes() == sent.data.tobytes()


def test_data_are_not_copied() -> None:
    content = serialize_message(message("a"))
    view = view_image(content)
    assert np.shares_memory(view.data, np.frombuffer(content, np.uint8))


def test_big_endian() -> None:
    text = struct.pack(">I", 2) + b"a\0\0\0"
    content = b"\0\0\0\0" + struct.pack(">iI", 7, 8) + text + struct.pack(">II", 1, 2)
    content += (
        struct.pack(">I", 6) + b"mono8\0" + b"\1" + b"\0" + struct.pack(">II", 2, 2) + b"\5\6"
    )
    view = view_image(content)
    assert (view.sec, view.nanosec, view.height, view.width, view.step) == (7, 8, 1, 2, 2)
    assert view.encoding == "mono8" and view.data.tolist() == [5, 6]


@pytest.mark.parametrize("identifier", [b"\0\1", b"\0\7"])
def test_both_versions_of_cdr_are_read(identifier: bytes) -> None:
    """XCDR2, which DDS may choose, differs in numbers of 8 bytes only; here there are none."""
    sent = message("frame")
    view = view_image(identifier + serialize_message(sent)[2:])
    assert (view.sec, view.frame_id, view.step) == (-3, "frame", 23)
    compressed = CompressedImage(format="jpeg", data=array.array("B", b"\xff\xd8"))
    content = identifier + serialize_message(compressed)[2:]
    assert view_compressed(content).format == "jpeg"


@pytest.mark.parametrize("identifier", [b"\0\0", b"\0\6"])
def test_both_versions_of_cdr_in_the_other_byte_order(identifier: bytes) -> None:
    text = struct.pack(">I", 2) + b"a\0\0\0"
    content = identifier + b"\0\0" + struct.pack(">iI", 7, 8) + text
    content += struct.pack(">I", 5) + b"jpeg\0\0\0\0" + struct.pack(">I", 2) + b"\5\6"
    view = view_compressed(content)
    assert (view.sec, view.nanosec, view.format, view.data.tolist()) == (7, 8, "jpeg", [5, 6])


def test_every_cut_is_noticed() -> None:
    content = serialize_message(message("frame"))
    for length in range(len(content)):
        # What ROS pads the end with is no part of the message.
        if length < len(content) - 3:
            with pytest.raises(MalformedMessage):
                view_image(content[:length])


def test_a_text_too_long() -> None:
    content = bytearray(serialize_message(message("frame")))
    content[12:16] = struct.pack("<I", 2**31)
    with pytest.raises(MalformedMessage, match="where a name is due"):
        view_image(bytes(content))


def test_not_cdr() -> None:
    with pytest.raises(MalformedMessage, match="not in CDR"):
        view_image(b"\0\3\0\0" + bytes(64))


@pytest.mark.parametrize("frame_id", ["", "a", "ab", "abc", "kamera_röhre"])
@pytest.mark.parametrize("encoding", ["bgr8", "mono8", "bayer_rggb8", "32FC48"])
def test_new_image(frame_id: str, encoding: str) -> None:
    content, data = new_image(-3, 999_999_999, frame_id, 5, 7, encoding, 23)
    data[:] = np.arange(data.size, dtype=np.uint8)
    read = deserialize_message(content.tobytes(), Image)
    expected = message(frame_id, encoding)
    expected.data = array.array("B", data.tobytes())
    expected.is_bigendian = int(sys.byteorder == "big")
    assert read == expected
    assert data.ctypes.data % 4 == content.ctypes.data % 4 == 0  # features are written as floats


@pytest.mark.parametrize("frame_id", ["", "a", "ab", "abc"])
def test_new_compressed(frame_id: str) -> None:
    picture = np.frombuffer(b"\xff\xd8 what ever", np.uint8)
    read = deserialize_message(
        new_compressed(1, 2, frame_id, "jpeg", picture).tobytes(), CompressedImage
    )
    assert (read.header.stamp.sec, read.header.stamp.nanosec) == (1, 2)
    assert (read.header.frame_id, read.format) == (frame_id, "jpeg")
    assert read.data.tobytes() == picture.tobytes()
