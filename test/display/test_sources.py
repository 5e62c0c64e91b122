"""What is to be shown now, of all that has come."""

from __future__ import annotations

import numpy as np
import pytest
from display_frames import flat, held

from unirestore_ros.display.frames import Held
from unirestore_ros.display.overlay import Area, Box, Boxes
from unirestore_ros.display.selection import Verdict
from unirestore_ros.display.sources import Sources
from unirestore_ros.display.view import Sign
from unirestore_ros.node.mode import Mode

MS = 1_000_000
NOW = 100.0


@pytest.fixture
def sources() -> Sources:
    """Time stands still."""
    return Sources(max_age=0.5, fallback_after=0.5, clock=lambda: NOW)


def frame(stamp_ms: int, level: int = 0) -> Held:
    return held(flat(level), stamp_s=stamp_ms / 1e3, captured=NOW, number=stamp_ms)


def boxes(stamp_ms: int) -> Boxes:
    return Boxes(stamp_ms * MS, (Box(0, 0, 1, 1, str(stamp_ms), (0, 0, 0)),))


def show(sources: Sources, restored: Held) -> None:
    sources.restored_frame(restored)
    sources.status(restored.frame.stamp_ns, Verdict(Mode.RESTORED))


def test_a_restored_picture_with_its_own_camera_frame(sources: Sources) -> None:
    camera = [frame(stamp) for stamp in (100, 133, 166)]
    for each in camera:
        sources.camera_frame(each)
    restored = frame(133, level=9)
    show(sources, restored)
    look = sources.look()
    assert (look.driver.picture, look.driver.sign) == (restored, Sign.RESTORED)
    assert look.pair is camera[1]
    assert look.camera.picture is camera[2]


def test_a_picture_waits_for_its_status(sources: Sources) -> None:
    sources.camera_frame(frame(100))
    restored = frame(100, level=9)
    sources.restored_frame(restored)
    assert sources.look().driver.sign is Sign.CAMERA
    sources.status(100 * MS, Verdict(Mode.RESTORED))
    assert sources.look().driver.picture is restored


def test_boxes_of_the_shown_frame_are_chosen_of_those_that_came(sources: Sources) -> None:
    show(sources, frame(1000))
    for stamp in (900, 1000, 1100):
        sources.add_boxes(boxes(stamp))
    assert sources.look().boxes == boxes(1000)


def test_the_nearest_boxes_until_the_frames_own_come(sources: Sources) -> None:
    show(sources, frame(1000))
    sources.add_boxes(boxes(900))
    assert sources.look().boxes == boxes(900)


def test_what_was_seen_long_before_is_not_drawn(sources: Sources) -> None:
    show(sources, frame(1000))
    sources.add_boxes(boxes(700))
    sources.add_area(Area(700 * MS, np.zeros((2, 2), np.uint8)))
    look = sources.look()
    assert look.boxes is None and look.area is None


def test_forgets_all(sources: Sources) -> None:
    show(sources, frame(1000))
    sources.add_boxes(boxes(1000))
    sources.forget()
    look = sources.look()
    assert (look.driver.picture, look.driver.sign) == (None, Sign.WAITING)
    assert look.boxes is None and look.pair is None
