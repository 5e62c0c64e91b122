"""The age of frames by any camera's clock: a scene of arrivals, and what is said of it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from rclpy.clock import ClockType, ROSClock
from rclpy.serialization import serialize_message
from rclpy.time import Time
from ros_station import image

from unirestore_ros.msgs.ages import AgeClock, ImageRepetition
from unirestore_ros.msgs.camera_frame import CameraFrame, read_frame

NOW_S = 1.7e9
PERIOD_S = 0.1
TRANSPORT_S = 0.02


class Log:
    """Takes the place of the node's logger, and remembers."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


class Scene:
    """A camera's frames as they arrive at a node whose clock is set by hand."""

    def __init__(self, max_age_ms: float = 500) -> None:
        self.log = Log()
        self.clock = ROSClock()
        self.clock._set_ros_time_is_active(True)
        self.ages = AgeClock(self.clock, self.log, max_age_ms)
        self.begun = time.monotonic() - 1000
        self.elapsed = 0.0
        self.level = 0
        self.is_frozen = False

    def set_clock(self, seconds: float) -> None:
        nanoseconds = round(seconds * 1e9)
        self.clock.set_ros_time_override(
            Time(nanoseconds=nanoseconds, clock_type=ClockType.ROS_TIME)
        )

    def arrive(self, stamp_s: float, now_s: float | None = None) -> CameraFrame:
        """The next frame, with this stamp, while the node's clock shows ``now_s``."""
        self.elapsed += PERIOD_S
        self.set_clock(NOW_S + self.elapsed if now_s is None else now_s)
        self.level = self.level if self.is_frozen else (self.level + 1) % 256
        message = image(np.full((2, 2, 3), self.level, np.uint8), "rgb8")
        message.header.stamp = Time(nanoseconds=round(stamp_s * 1e9)).to_msg()
        frame = read_frame(serialize_message(message), False, self.begun + self.elapsed, 0)
        self.ages.observe(frame)
        return frame

    def play(self, stamp_of: Callable[[float], float], seconds: float) -> list[str | None]:
        """Frames whose stamp depends on the node's clock; what is said after each."""
        said = []
        for _ in range(round(seconds / PERIOD_S)):
            self.arrive(stamp_of(NOW_S + self.elapsed + PERIOD_S))
            said.append(self.ages.note)
        return said


def right(now_s: float) -> float:
    return now_s - TRANSPORT_S


def hours_late(now_s: float) -> float:
    return now_s - 10000


@pytest.mark.parametrize("age", [0.0, 0.02, 0.4])
def test_a_camera_of_the_nodes_clock(age: float) -> None:
    scene = Scene()
    assert set(scene.play(lambda now: now - age, 5)) == {None}
    frame = scene.arrive(NOW_S + scene.elapsed + PERIOD_S - age)
    assert scene.ages.age_s(frame) == pytest.approx(age, abs=1e-6)
    scene.set_clock(NOW_S + scene.elapsed + 0.3)
    assert scene.ages.age_s(frame) == pytest.approx(age + 0.3, abs=1e-6)
    assert scene.log.warnings == []


@pytest.mark.parametrize(
    ("behind", "said"),
    [
        (1.0, "age unknown: camera clock is 1.0 s behind"),
        (12.0, "age unknown: camera clock is 12.0 s behind"),
        (-3600.0, "age unknown: camera clock is 3600.0 s ahead"),
        (-0.4, "age unknown: camera clock is 0.4 s ahead"),
        (NOW_S - 4321.0, "age unknown: camera clock is 1699995679.0 s behind"),
    ],
    ids=["1 s behind", "12 s behind", "an hour ahead", "ahead", "boot time"],
)
def test_another_clock(behind: float, said: str) -> None:
    """Its frames are of unknown age, after a second at the latest, and count from arrival."""
    scene = Scene()
    notes = scene.play(lambda now: now - behind, 4)
    assert set(notes[11:]) == {said}
    frame = scene.arrive(NOW_S + scene.elapsed + PERIOD_S - behind)
    assert scene.ages.age_s(frame) == pytest.approx(time.monotonic() - frame.arrived, abs=0.1)
    (warning,) = scene.log.warnings
    assert said in warning and "ages count from arrival" in warning


def test_stamps_of_zero() -> None:
    scene = Scene()
    notes = scene.play(lambda now: 0.0, 2)
    assert set(notes) == {"age unknown: the camera's stamps are zero"}
    assert not scene.ages.has_stamps


def test_stamps_that_are_all_alike() -> None:
    """The first frames look fresh."""
    scene = Scene()
    notes = scene.play(lambda now: NOW_S, 2)
    assert set(notes[4:]) == {"age unknown: the camera's stamps are all alike"}
    assert not scene.ages.has_stamps


def test_a_jump_back_is_a_clock_that_is_behind_once_the_old_stamps_are_past() -> None:
    scene = Scene()
    assert set(scene.play(right, 4)) == {None}
    notes = scene.play(lambda now: now - 5.0, 6)
    assert notes[:29] == [None] * 29  # such frames are old until the clock is known to have jumped
    assert set(notes[31:]) == {"age unknown: camera clock is 5.0 s behind"}
    assert set(scene.play(right, 1)) == {None}


def test_a_jump_ahead_is_noticed_at_once() -> None:
    scene = Scene()
    scene.play(right, 4)
    assert set(scene.play(lambda now: now + 60.0, 1)) == {
        "age unknown: camera clock is 60.0 s ahead"
    }
    assert scene.play(right, 2)[-1] is None


def test_simulated_time_that_has_not_begun() -> None:
    scene = Scene()
    scene.arrive(NOW_S, now_s=0.0)
    assert scene.ages.unknown == "use_sim_time is set, and nothing has come on /clock"


def test_simulated_time_that_is_paused() -> None:
    scene = Scene()
    scene.play(right, 1)
    paused = NOW_S + scene.elapsed
    for _ in range(50):
        frame = scene.arrive(paused - TRANSPORT_S, now_s=paused)
    assert scene.ages.note is not None and "the node's clock stands still" in scene.ages.note
    assert scene.ages.age_s(frame) == pytest.approx(time.monotonic() - frame.arrived, abs=0.1)
    scene.begun -= NOW_S  # it goes on
    assert scene.play(right, 4)[-1] is None


def test_simulated_time_advances_in_steps() -> None:
    """At 10 Hz a frame may come 0.1 s before the step of its stamp."""
    scene = Scene()
    for _ in range(40):
        stamp = NOW_S + scene.elapsed + PERIOD_S
        scene.arrive(stamp, now_s=np.floor(stamp * 5) / 5)
        assert scene.ages.unknown is None


def test_frames_that_are_late_on_the_way_are_old() -> None:
    """They differ in how late they are, or have a fresh one among them."""
    scene = Scene()
    assert set(scene.play(lambda now: now - 0.6 - 0.3 * (now - NOW_S), 6)) == {None}
    scene = Scene()
    scene.play(right, 1)
    assert set(scene.play(lambda now: now - 2.0, 1)) == {None}
    frame = scene.arrive(NOW_S + scene.elapsed + PERIOD_S - 2.0)
    assert scene.ages.age_s(frame) == pytest.approx(2.0, abs=1e-6)


def test_some_late_frames_are_no_other_clock() -> None:
    scene = Scene()
    assert scene.play(lambda now: now - 2.0, 0.5) == [None] * 5


def test_the_limit_is_the_nodes() -> None:
    scene = Scene(max_age_ms=2000)
    assert set(scene.play(lambda now: now - 1.0, 4)) == {None}
    scene.ages.max_age_s = 0.5
    assert scene.play(lambda now: now - 1.0, 0.1) == ["age unknown: camera clock is 1.0 s behind"]


def test_a_frozen_camera_is_told_within_two_seconds() -> None:
    scene = Scene()
    scene.play(right, 3)
    scene.is_frozen = True
    said = scene.play(right, 2)
    assert said[:9] == [None] * 9
    assert said[-1] == "age unknown: the camera's image has not changed for 2.0 s"
    assert len(scene.log.warnings) == 1 and "frozen" in scene.log.warnings[0]
    frame = scene.arrive(NOW_S + scene.elapsed + PERIOD_S - 0.2)
    assert scene.ages.age_s(frame) == pytest.approx(0.2, abs=1e-6), "frames late on the way are"
    scene.is_frozen = False
    assert scene.play(right, 0.1) == [None]


def test_a_slow_camera_repeats_three_times_before_it_counts_as_frozen() -> None:
    repetition = ImageRepetition()
    for now in (0.0, 5.0, 10.0):
        repetition.observe(bytes(64), now)
        assert repetition.note is None
    repetition.observe(bytes(64), 15.0)
    assert repetition.note is not None


def test_one_byte_that_differs_is_another_image() -> None:
    repetition = ImageRepetition()
    for step in range(40):
        message = bytearray(100_000)
        message[-7] = step % 2
        repetition.observe(bytes(message), step / 10)
    assert repetition.note is None


def test_a_clock_that_is_set_back_is_told_at_once() -> None:
    scene = Scene()
    scene.play(right, 5)
    said = scene.play(lambda now: now - 1000, 1)
    assert said[0] == "age unknown: camera clock is 1000.0 s behind"
    assert None not in said


def test_two_cameras_on_one_topic_do_not_flood_the_log() -> None:
    scene = Scene()
    for step in range(100):
        scene.play(right if step % 2 else hours_late, PERIOD_S)
    assert len(scene.log.warnings) < 10
