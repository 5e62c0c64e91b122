"""What is to be shown now, of all that has come."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from display_frames import buffered, flat

from unirestore_ros.display.overlay import Area, Box, Boxes
from unirestore_ros.display.selection import FrameStatus, StatusReport
from unirestore_ros.display.sources import BufferedFrame, FrameHistory, Sources
from unirestore_ros.node.fallback import Mode

MS = 1_000_000
NOW = 100.0
COLOURED = np.dstack([np.full((48, 64), level, np.uint8) for level in (30, 90, 200)])


@pytest.fixture
def sources() -> Sources:
    """Time stands still."""
    return Sources(max_age=0.5, fallback_after=0.5, clock=lambda: NOW)


def frame(stamp_ms: int, level: int = 0) -> BufferedFrame:
    return buffered(flat(level), stamp_s=stamp_ms / 1e3, captured=NOW, number=stamp_ms)


def boxes(stamp_ms: int) -> Boxes:
    return Boxes(stamp_ms * MS, (Box(0, 0, 1, 1, str(stamp_ms), (0, 0, 0)),))


def show(sources: Sources, restored: BufferedFrame) -> None:
    sources.add_restored_frame(restored)
    sources.add_report(restored.frame.stamp_ns, StatusReport(Mode.RESTORED))


def test_a_restored_image_with_its_own_camera_frame(sources: Sources) -> None:
    camera = [frame(stamp) for stamp in (100, 133, 166)]
    for each in camera:
        sources.add_camera_frame(each)
    restored = frame(133, level=9)
    show(sources, restored)
    snapshot = sources.snapshot()
    assert (snapshot.driver.frame, snapshot.driver.status) == (restored, FrameStatus.RESTORED)
    assert snapshot.driver_input is camera[1]
    assert snapshot.camera.frame is camera[2]


def test_an_image_waits_for_its_status(sources: Sources) -> None:
    sources.add_camera_frame(frame(100))
    restored = frame(100, level=9)
    sources.add_restored_frame(restored)
    assert sources.snapshot().driver.status is FrameStatus.CAMERA
    sources.add_report(100 * MS, StatusReport(Mode.RESTORED))
    assert sources.snapshot().driver.frame is restored


def test_boxes_of_the_shown_frame_are_chosen(sources: Sources) -> None:
    show(sources, frame(1000))
    for stamp in (900, 1000, 1100):
        sources.add_boxes(boxes(stamp))
    assert sources.snapshot().boxes == boxes(1000)


def test_the_nearest_boxes_until_the_frames_own_come(sources: Sources) -> None:
    show(sources, frame(1000))
    sources.add_boxes(boxes(900))
    assert sources.snapshot().boxes == boxes(900)


def test_boxes_and_area_of_long_before_are_not_drawn(sources: Sources) -> None:
    show(sources, frame(1000))
    sources.add_boxes(boxes(700))
    sources.add_area(Area(700 * MS, np.zeros((2, 2), np.uint8)))
    snapshot = sources.snapshot()
    assert snapshot.boxes is None and snapshot.area is None


def test_reset_forgets_everything(sources: Sources) -> None:
    show(sources, frame(1000))
    sources.add_boxes(boxes(1000))
    sources.reset()
    snapshot = sources.snapshot()
    assert (snapshot.driver.frame, snapshot.driver.status) == (None, FrameStatus.WAITING)
    assert snapshot.boxes is None and snapshot.driver_input is None


def test_pixels_of_raw_and_compressed_frames() -> None:
    np.testing.assert_array_equal(buffered(COLOURED).pixels, COLOURED)
    decoded = buffered(COLOURED, jpeg=True).pixels
    assert np.abs(decoded.astype(int) - COLOURED).max() <= 4


def test_raw_pixels_are_the_messages_own() -> None:
    frame = buffered(COLOURED)
    assert np.shares_memory(frame.pixels, np.frombuffer(frame.frame.message, np.uint8))


def test_the_jpeg_is_made_once_and_no_wider_than_asked() -> None:
    frame = buffered(COLOURED)
    whole = frame.jpeg(90, 1280)
    assert frame.jpeg(90, 1280) is whole
    assert cv2.imdecode(np.frombuffer(whole, np.uint8), 1).shape == (48, 64, 3)
    small = frame.jpeg(90, 32)
    assert cv2.imdecode(np.frombuffer(small, np.uint8), 1).shape == (24, 32, 3)


def test_the_frame_of_the_same_stamp_is_found() -> None:
    history = FrameHistory(1.0)
    frames = [buffered(flat(n), stamp_s=n / 10, captured=n / 10) for n in range(5)]
    for frame in frames:
        history.add(frame)
    assert history.nearest(200 * MS) is frames[2]
    assert history.nearest(290 * MS) is frames[3]


def test_an_empty_history_has_no_nearest_frame() -> None:
    assert FrameHistory(1.0).nearest(0) is None


def test_old_frames_are_dropped() -> None:
    history = FrameHistory(0.5)
    for n in range(100):
        history.add(buffered(flat(0), stamp_s=n / 10, captured=n / 10))
    assert len(history._frames) == 6


def test_memory_is_bounded_whatever_the_rate() -> None:
    size = len(buffered(flat(0)).frame.message)
    history = FrameHistory(1000.0, max_bytes=10 * size)
    for n in range(100):
        history.add(buffered(flat(0), captured=float(n)))
    assert len(history._frames) == 10


def test_of_equal_stamps_the_newest_is_taken(sources: Sources) -> None:
    camera = [buffered(flat(level), captured=NOW, number=level) for level in (1, 2, 3)]
    for each in camera:
        sources.add_camera_frame(each)
    for number in (7, 8):
        sources.add_boxes(Boxes(0, (Box(0, 0, 1, 1, str(number), (0, 0, 0)),)))
    show(sources, buffered(flat(9), captured=NOW, number=9))
    snapshot = sources.snapshot()
    assert snapshot.driver_input is camera[-1]
    assert snapshot.boxes is not None and snapshot.boxes.boxes[0].text == "8"
