"""Which frame is shown, and with which status."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from unirestore_ros.display.selection import (
    STATUS_WAIT_S,
    FrameSelector,
    FrameStatus,
    Selected,
    StatusMatcher,
    StatusReport,
)
from unirestore_ros.node.fallback import FRAMES_TO_RETURN, Mode

MAX_AGE, FALLBACK = 0.5, 0.25
PERIOD = 0.1
SOON = STATUS_WAIT_S / 2
RESTORED = StatusReport(Mode.RESTORED)
CAMERA = StatusReport(Mode.CAMERA, "disabled")


@dataclass(frozen=True)
class Frame:
    kind: str
    captured: float
    refused: str | None = None


class Drive:
    """Let time pass in periods of the camera, in which restorer and camera may be silent."""

    def __init__(self) -> None:
        self.now = 100.0
        self.selector = FrameSelector[Frame](self.now, MAX_AGE, FALLBACK)

    def go(
        self,
        seconds: float,
        camera: bool = True,
        report: StatusReport | None = RESTORED,
        latency: float = 0.05,
    ) -> list[Selected[Frame]]:
        """Return what is shown at the end of each period."""
        seen = []
        for _ in range(round(seconds / PERIOD)):
            self.now += PERIOD
            if camera:
                self.selector.add_camera_frame(Frame("camera", self.now), self.now)
            if report is not None:
                frame = Frame("restored", self.now - latency)
                self.selector.add_restored_frame(frame, report, self.now)
            seen.append(self.selector.select(self.now))
        return seen


@pytest.fixture
def drive() -> Drive:
    return Drive()


def kinds(seen: list[Selected[Frame]]) -> list[tuple[str | None, FrameStatus]]:
    return [(each.frame.kind if each.frame else None, each.status) for each in seen]


def test_waiting_until_something_comes(drive: Drive) -> None:
    assert set(kinds(drive.go(2, camera=False, report=None))) == {(None, FrameStatus.WAITING)}


def test_the_restored_frame_while_it_comes(drive: Drive) -> None:
    assert set(kinds(drive.go(3))) == {("restored", FrameStatus.RESTORED)}


def test_the_cameras_until_the_first_is_restored(drive: Drive) -> None:
    seen = drive.go(0.3, report=None)
    assert set(kinds(seen)) == {("camera", FrameStatus.CAMERA)}
    assert seen[0].reason == "nothing restored yet"
    assert kinds(drive.go(0.1)) == [("restored", FrameStatus.RESTORED)]


def test_a_frame_that_the_restorer_relays_is_labelled_camera(drive: Drive) -> None:
    (seen,) = drive.go(0.1, report=StatusReport(Mode.CAMERA, "disabled"))
    assert (seen.frame and seen.frame.kind, seen.status) == ("restored", FrameStatus.CAMERA)
    assert seen.reason == "disabled"


def test_without_a_status_no_frame_is_labelled_restored(drive: Drive) -> None:
    (seen,) = drive.go(0.1, report=StatusReport(None, "silent"))
    assert (seen.status, seen.reason) == (FrameStatus.UNCONFIRMED, "silent")


def test_falls_back_to_the_camera_when_the_restorer_stops(drive: Drive) -> None:
    drive.go(2)
    stopped = drive.now
    seen = kinds(drive.go(2, report=None))
    assert seen[0] == ("restored", FrameStatus.RESTORED)
    first = seen.index(("camera", FrameStatus.CAMERA))
    assert (first + 1) * PERIOD <= FALLBACK + 2 * PERIOD
    assert set(seen[first:]) == {("camera", FrameStatus.CAMERA)}
    assert drive.selector.select(drive.now).reason == "no output for 250 ms of input"
    assert drive.now == pytest.approx(stopped + 2)


def test_frames_that_arrive_too_old_are_not_shown(drive: Drive) -> None:
    drive.go(2)
    seen = drive.go(2, latency=MAX_AGE + 0.1)
    assert ("restored", FrameStatus.RESTORED) not in kinds(seen[6:])
    assert seen[-1].status is FrameStatus.CAMERA
    assert seen[-1].reason == "no fresh image from the restorer"


def test_comes_back_after_some_frames_and_a_second(drive: Drive) -> None:
    drive.go(2)
    drive.go(2, report=None)
    seen = kinds(drive.go(3))
    back = seen.index(("restored", FrameStatus.RESTORED))
    assert back + 1 >= FRAMES_TO_RETURN
    assert set(seen[back:]) == {("restored", FrameStatus.RESTORED)}


def test_does_not_flicker_when_the_restorer_is_late_now_and_then(drive: Drive) -> None:
    changes, before = 0, None
    for _ in range(10):
        for late in (False, False, True, True):
            drive.go(0.3, report=None if late else RESTORED)
            status = drive.selector.select(drive.now).status
            changes += before is not None and status is not before
            before = status
    assert changes <= 10 * 1.2 * 1.0 + 1  # once a second at most, over 12 s


def test_stale_when_nothing_comes_and_never_before(drive: Drive) -> None:
    drive.go(2)
    newest = drive.now
    seen = drive.go(2, camera=False, report=None)
    for step, each in enumerate(seen, 1):
        assert each.frame is not None
        is_old = newest + step * PERIOD - each.frame.captured > MAX_AGE
        assert (each.status is FrameStatus.STALE) == is_old
    assert seen[-1].status is FrameStatus.STALE


def test_the_stale_frame_is_the_newest_of_both(drive: Drive) -> None:
    drive.go(1)
    drive.go(1, report=None)
    (*_, last) = drive.go(2, camera=False, report=None)
    assert (last.frame and last.frame.kind, last.status) == ("camera", FrameStatus.STALE)


def test_a_restorer_alone_is_shown_and_goes_stale(drive: Drive) -> None:
    """Nobody publishes the camera's topic, or it is remapped wrongly."""
    assert set(kinds(drive.go(2, camera=False))) == {("restored", FrameStatus.RESTORED)}
    assert drive.go(1, camera=False, report=None)[-1].status is FrameStatus.STALE


def test_the_raw_view_shows_the_camera_whatever_the_restorer_does(drive: Drive) -> None:
    drive.go(1)
    choice = drive.selector.select_camera(drive.now)
    assert (choice.frame and choice.frame.kind, choice.status) == ("camera", FrameStatus.CAMERA)
    drive.go(1, camera=False)
    assert drive.selector.select_camera(drive.now).status is FrameStatus.STALE
    assert drive.selector.select(drive.now).status is FrameStatus.RESTORED


def test_limits_may_change(drive: Drive) -> None:
    drive.go(1)
    drive.selector.set_limits(5.0, 5.0)
    assert drive.go(2, camera=False, report=None)[-1].status is FrameStatus.RESTORED


def test_a_frame_waits_for_its_status() -> None:
    matcher = StatusMatcher[str]()
    assert matcher.add_frame(1, "one", 0.0) == []
    assert matcher.add_report(1, RESTORED, SOON) == [("one", RESTORED)]
    assert matcher.take_due(10.0) == []


def test_the_status_may_come_first() -> None:
    matcher = StatusMatcher[str]()
    assert matcher.add_report(1, CAMERA, 0.0) == []
    assert matcher.add_frame(1, "one", SOON) == [("one", CAMERA)]


def test_a_status_counts_for_its_own_frame_only() -> None:
    matcher = StatusMatcher[str]()
    matcher.add_report(1, RESTORED, 0.0)
    assert matcher.add_frame(2, "two", 0.0) == []
    assert matcher.take_due(SOON) == []
    ((frame, report),) = matcher.take_due(2 * STATUS_WAIT_S)
    assert (frame, report.mode) == ("two", None)


def test_a_status_of_another_publisher_does_not_sign_a_frame_of_the_same_stamp() -> None:
    matcher = StatusMatcher[str]()
    matcher.add_report((b"other", 1), RESTORED, 0.0)
    assert matcher.add_frame((b"one", 1), "one", 0.0) == []
    matcher.add_report((b"one", 1), CAMERA, SOON)
    assert matcher.take_due(SOON) == []
    assert matcher.add_frame((b"other", 1), "other", SOON) == [("other", RESTORED)]


def test_a_lost_status_does_not_delay_the_next_frame() -> None:
    matcher = StatusMatcher[str]()
    matcher.add_frame(1, "one", 0.0)
    matcher.add_frame(2, "two", 0.0)
    (lost, confirmed) = matcher.add_report(2, RESTORED, SOON)
    assert lost[0] == "one" and lost[1].mode is None
    assert confirmed == ("two", RESTORED)


def test_frames_leave_in_their_order() -> None:
    matcher = StatusMatcher[int]()
    left = []
    for number in range(20):
        left += matcher.add_frame(number, number, number * 0.01)
    left += matcher.take_due(10.0)
    assert [number for number, _ in left] == list(range(20))


def test_queues_are_bounded() -> None:
    matcher = StatusMatcher[int]()
    for number in range(1000):
        matcher.add_report(number, RESTORED, 0.0)
        matcher.add_frame(-number - 1, number, 0.0)
    assert len(matcher._reports) <= 32 and len(matcher._frames) <= 9


def test_frames_of_one_stamp_are_paired_in_their_order() -> None:
    """As of a camera whose stamps are all zero."""
    matcher = StatusMatcher[str]()
    assert matcher.add_report(0, CAMERA, 100.0) == []
    assert matcher.add_report(0, RESTORED, 100.01) == []
    assert matcher.add_frame(0, "first", 100.02) == [("first", CAMERA)]
    assert matcher.add_frame(0, "second", 100.03) == [("second", RESTORED)]
    assert matcher.add_frame(0, "third", 100.04) == []
    assert matcher.add_report(0, CAMERA, 100.05) == [("third", CAMERA)]


def test_a_report_whose_frame_was_lost_is_not_the_next_ones() -> None:
    matcher = StatusMatcher[str]()
    matcher.add_report(0, CAMERA, 100.0)
    matcher.add_report(0, RESTORED, 102.0)
    assert matcher.add_frame(0, "frame", 102.01) == [("frame", RESTORED)]
