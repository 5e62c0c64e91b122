"""What the fallback lets through, in which order, and what it logs of it."""

from __future__ import annotations

import threading
import time

import pytest

from unirestore_ros.node.fallback import MOST_LOGGED_REASONS, Fallback, Mode

FALLBACK = 0.5


class Log:
    """Takes the place of the node's logger, and remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str) -> None:
        self.lines.append(text)

    warning = info


def new_fallback(fallback_after: float = FALLBACK) -> Fallback:
    return Fallback(fallback_after, Log())


def relayed(fallback: Fallback, number: int, unsupported: str | None = None) -> bool:
    return fallback.frame_arrived(number, wanted=True, unsupported=unsupported)


def sent(fallback: Fallback, number: int, is_awaited: bool = True) -> bool:
    with fallback.sending_restored(number, is_awaited) as allowed:
        return allowed


def test_restored_mode_sends_restored_frames_only() -> None:
    fallback = new_fallback()
    assert not relayed(fallback, 1)
    assert sent(fallback, 1)


def test_camera_mode_sends_the_cameras_only() -> None:
    fallback = new_fallback()
    fallback.set_enabled(False)
    assert relayed(fallback, 1)
    assert not sent(fallback, 1)


def test_an_unsupported_frame_is_relayed_itself() -> None:
    fallback = new_fallback()
    assert relayed(fallback, 1, unsupported="of another size")
    assert fallback.mode is Mode.CAMERA and fallback.reason == "of another size"


def test_no_frame_is_sent_after_a_newer_one_that_was_relayed() -> None:
    fallback = new_fallback()
    fallback.set_enabled(False)
    for number in range(1, 6):
        assert relayed(fallback, number)
    fallback.restart(enabled=True, problem=None)
    assert fallback.mode is Mode.RESTORED
    assert not sent(fallback, 4) and not sent(fallback, 5)
    assert not relayed(fallback, 6)
    assert sent(fallback, 6)


@pytest.mark.parametrize(
    ("enabled", "problem", "reason"),
    [(False, None, "disabled"), (True, "no bundle", "no bundle"), (False, "no bundle", "disabled")],
)
def test_a_restart_keeps_what_prevents_restoring(
    enabled: bool, problem: str | None, reason: str
) -> None:
    fallback = new_fallback()
    fallback.restart(enabled, problem)
    assert (fallback.mode, fallback.reason) == (Mode.CAMERA, reason)


def may_send_converted(fallback: Fallback, number: int) -> bool:
    with fallback.sending_camera(number) as allowed:
        return allowed


def test_no_converted_frame_is_sent_after_a_newer_restored_one() -> None:
    """Converting takes time, in which restored mode may return."""
    fallback = new_fallback()
    fallback.set_enabled(False)
    assert relayed(fallback, 1) and relayed(fallback, 2)
    assert may_send_converted(fallback, 1)
    fallback.restart(enabled=True, problem=None)
    assert not relayed(fallback, 3) and sent(fallback, 3)
    assert not may_send_converted(fallback, 2)


def test_a_frame_that_was_relayed_is_not_restored_once_camera_mode_has_ended() -> None:
    """It waited while the frame was restored that ended camera mode."""
    fallback = new_fallback()
    fallback.set_enabled(False)
    assert relayed(fallback, 1) and relayed(fallback, 2)
    assert not fallback.is_too_late_for(2), "it may be what ends camera mode"
    fallback.restart(enabled=True, problem=None)
    assert not relayed(fallback, 3)
    assert fallback.is_too_late_for(2) and not fallback.is_too_late_for(3)


def test_a_stall_within_a_second_of_the_return_shows_the_cameras_frames_one_by_one() -> None:
    """The mode may not change yet: `~/image` would pause for up to a second more."""
    fallback = new_fallback(fallback_after=0.05)
    fallback.set_enabled(False)
    assert relayed(fallback, 1)
    fallback.set_enabled(True)
    deadline = time.monotonic() + 10
    while fallback.mode is Mode.CAMERA and time.monotonic() < deadline:
        fallback.frame_tried(True)
        time.sleep(0.01)
    assert fallback.mode is Mode.RESTORED and fallback.reason == ""
    assert not relayed(fallback, 2)
    time.sleep(0.06)
    assert relayed(fallback, 3) and fallback.mode is Mode.RESTORED
    assert fallback.reason == "no output for 50 ms of input"
    assert not sent(fallback, 2), "a newer frame of the camera was shown"


def test_changes_are_logged() -> None:
    fallback = Fallback(FALLBACK, log := Log())
    fallback.set_problem("no bundle")
    fallback.set_problem("still no bundle")
    assert log.lines == ["camera mode: no bundle"]


def test_why_frames_are_not_restored_is_logged_in_camera_mode_too() -> None:
    """The camera's first frames come while the engine is still being loaded."""
    fallback = Fallback(FALLBACK, log := Log())
    fallback.set_problem("no bundle has been read")
    for number in range(3):
        relayed(fallback, number, "encoding '8UC3'")
    fallback.engine_is_ready()
    for number in range(3, 60):
        relayed(fallback, number, f"encoding {number % 30}")
    assert log.lines[:3] == [
        "camera mode: no bundle has been read",
        "camera mode: encoding '8UC3'",
        "camera mode: encoding 3",
    ]
    assert len(log.lines) == MOST_LOGGED_REASONS


def test_a_restored_frame_cannot_slip_in_behind_a_relayed_one() -> None:
    """The mode changes while a restored frame is being sent: that comes first, or not at all."""
    fallback, order = new_fallback(), list[str]()
    sending, changed = threading.Event(), threading.Event()

    def send() -> None:
        with fallback.sending_restored(1) as allowed:
            assert allowed
            sending.set()
            changed.wait(0.2)  # does not come: the lock is held
            order.append("restored")

    restorer = threading.Thread(target=send)
    restorer.start()
    assert sending.wait(10)
    fallback.set_enabled(False)
    changed.set()
    if relayed(fallback, 2):
        order.append("camera")
    restorer.join()
    assert order == ["restored", "camera"]


def test_a_camera_info_is_no_sign_of_life() -> None:
    fallback = new_fallback(0.0)
    relayed(fallback, 1)
    assert sent(fallback, 1, is_awaited=False)
    fallback.check_stall(wanted=True)
    assert fallback.mode is Mode.CAMERA


def test_an_image_is() -> None:
    fallback = new_fallback(0.0)
    relayed(fallback, 1)
    assert sent(fallback, 1)
    fallback.check_stall(wanted=True)
    assert fallback.mode is Mode.RESTORED
