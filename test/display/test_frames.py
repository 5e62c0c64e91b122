"""Frames that are held: pixels and JPEG made once, and the camera's frame of a restored one."""

from __future__ import annotations

import cv2
import numpy as np
from display_frames import flat, held

from unirestore_ros.display.frames import RecentFrames

COLOURED = np.dstack([np.full((48, 64), level, np.uint8) for level in (30, 90, 200)])


def test_pixels_of_raw_and_compressed_frames() -> None:
    np.testing.assert_array_equal(held(COLOURED).pixels, COLOURED)
    decoded = held(COLOURED, jpeg=True).pixels
    assert np.abs(decoded.astype(int) - COLOURED).max() <= 4


def test_raw_pixels_are_the_messages_own() -> None:
    frame = held(COLOURED)
    assert np.shares_memory(frame.pixels, np.frombuffer(frame.frame.message, np.uint8))


def test_the_jpeg_is_made_once_and_no_wider_than_asked() -> None:
    frame = held(COLOURED)
    whole = frame.jpeg(90, 1280)
    assert frame.jpeg(90, 1280) is whole
    assert cv2.imdecode(np.frombuffer(whole, np.uint8), 1).shape == (48, 64, 3)
    small = frame.jpeg(90, 32)
    assert cv2.imdecode(np.frombuffer(small, np.uint8), 1).shape == (24, 32, 3)


def test_the_frame_of_the_same_stamp_is_found() -> None:
    recent = RecentFrames(1.0)
    frames = [held(flat(n), stamp_s=n / 10, captured=n / 10) for n in range(5)]
    for frame in frames:
        recent.add(frame)
    assert recent.like(held(flat(9), stamp_s=0.2)) is frames[2]
    assert recent.like(held(flat(9), stamp_s=0.29)) is frames[3]


def test_none_where_there_is_none() -> None:
    assert RecentFrames(1.0).like(held(flat(0))) is None


def test_old_frames_go() -> None:
    recent = RecentFrames(0.5)
    for n in range(100):
        recent.add(held(flat(0), stamp_s=n / 10, captured=n / 10))
    assert len(recent._held) == 6


def test_memory_is_bounded_whatever_the_rate() -> None:
    size = len(held(flat(0)).frame.message)
    recent = RecentFrames(1000.0, most_bytes=10 * size)
    for n in range(100):
        recent.add(held(flat(0), captured=float(n)))
    assert len(recent._held) == 10
