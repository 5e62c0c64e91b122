"""The mode switch, and what it lets through in which order."""

from __future__ import annotations

import itertools
import threading
import time

import pytest

from unirestore_ros.node.fallback import (
    FRAMES_TO_RETURN,
    MOST_LOGGED_REASONS,
    Fallback,
    Mode,
    ModeSwitch,
)

START = 100.0
FALLBACK = 0.5


def new_switch(wanted: bool = True) -> ModeSwitch:
    switch = ModeSwitch(START, FALLBACK)
    switch.set_wanted(wanted)
    return switch


def try_frames(switch: ModeSwitch, now: float, *outcomes: bool) -> None:
    for succeeded in outcomes:
        switch.frame_tried(succeeded, now)


def in_camera_mode(now: float = START) -> ModeSwitch:
    switch = new_switch()
    switch.frame_arrived(now, unsupported="of another size")
    assert switch.mode is Mode.CAMERA
    return switch


def test_begins_restored() -> None:
    assert new_switch().mode is Mode.RESTORED
    assert new_switch().reason == ""


def test_a_stall_shows_the_camera() -> None:
    switch = new_switch()
    switch.frame_arrived(START + 10)
    switch.check_stall(START + 10.49)
    assert switch.mode is Mode.RESTORED
    switch.check_stall(START + 10.51)
    assert switch.mode is Mode.CAMERA
    assert switch.reason == "no output for 500 ms of input"


def test_only_a_slow_engine_keeps_the_camera_shown_after_a_stall() -> None:
    """Restored mode and a stall wait for speed; what else shows the camera's image does not."""
    switch = new_switch()
    assert switch.waits_for_speed
    switch.frame_arrived(START + 10)
    switch.check_stall(START + 10.51)
    assert switch.mode is Mode.CAMERA and switch.waits_for_speed
    switch.set_problem("the bundle is being loaded", START + 11)
    assert not switch.waits_for_speed
    switch.engine_is_ready(START + 12)
    assert switch.waits_for_speed
    switch.set_enabled(False, START + 13)
    assert not switch.waits_for_speed
    switch.set_enabled(True, START + 14)
    assert switch.waits_for_speed
    for moment in (14.1, 14.2, 14.3):
        switch.frame_refused(START + moment)
    assert "guard" in switch.reason and not switch.waits_for_speed
    assert not in_camera_mode().waits_for_speed
    switch = new_switch()
    switch.frame_arrived(START + 10)
    switch.check_stall(START + 10.51)
    switch.set_wanted(False)
    assert not switch.waits_for_speed


def test_a_stall_counts_from_the_first_frame_without_answer() -> None:
    switch = new_switch()
    for step in range(6):
        switch.frame_arrived(START + 0.1 * step)
    switch.check_stall(START + 0.51)
    assert switch.mode is Mode.CAMERA


def test_output_ends_a_stall() -> None:
    switch = new_switch()
    switch.frame_arrived(START)
    switch.output_sent()
    switch.check_stall(START + 9)
    assert switch.mode is Mode.RESTORED


def test_a_camera_that_pauses_is_no_stall() -> None:
    switch = new_switch()
    switch.check_stall(START + 9)
    assert switch.mode is Mode.RESTORED


def test_the_limit_may_change() -> None:
    switch = new_switch()
    switch.fallback_after = 2.0
    switch.frame_arrived(START)
    switch.check_stall(START + 1.9)
    assert switch.mode is Mode.RESTORED
    switch.check_stall(START + 2.1)
    assert switch.mode is Mode.CAMERA


def test_an_unsupported_frame_shows_the_camera_at_once() -> None:
    switch = new_switch()
    switch.frame_arrived(START + 0.001, unsupported="of another size")
    assert (switch.mode, switch.reason) == (Mode.CAMERA, "of another size")


def test_disabled_shows_the_camera_at_once() -> None:
    switch = new_switch()
    switch.set_enabled(False, START)
    assert (switch.mode, switch.reason) == (Mode.CAMERA, "disabled")


def test_a_problem_shows_the_camera_at_once() -> None:
    switch = new_switch()
    switch.set_problem("no bundle", START)
    assert (switch.mode, switch.reason) == (Mode.CAMERA, "no bundle")


def test_with_nobody_subscribed_neither_stall_nor_unsupported_frame_changes_it() -> None:
    switch = new_switch(wanted=False)
    switch.frame_arrived(START, unsupported="of another size")
    switch.frame_arrived(START)
    switch.check_stall(START + 9)
    assert switch.mode is Mode.RESTORED


def test_with_nobody_subscribed_it_does_not_return() -> None:
    switch = in_camera_mode()
    switch.set_wanted(False)
    try_frames(switch, START + 9, True, True, True, True)
    assert switch.mode is Mode.CAMERA


def test_who_subscribes_later_starts_no_stall_of_before() -> None:
    switch = new_switch()
    switch.frame_arrived(START)
    switch.set_wanted(False)
    switch.set_wanted(True)
    switch.check_stall(START + 9)
    assert switch.mode is Mode.RESTORED


def test_returns_after_frames_in_a_row() -> None:
    switch = in_camera_mode()
    try_frames(switch, START + 5, *[True] * (FRAMES_TO_RETURN - 1))
    assert switch.mode is Mode.CAMERA
    try_frames(switch, START + 5, True)
    assert (switch.mode, switch.reason) == (Mode.RESTORED, "")


def test_a_failure_breaks_the_row() -> None:
    switch = in_camera_mode()
    try_frames(switch, START + 5, True, True, False, True, True)
    assert switch.mode is Mode.CAMERA
    try_frames(switch, START + 5, True)
    assert switch.mode is Mode.RESTORED


def test_an_unsupported_frame_breaks_the_row() -> None:
    switch = in_camera_mode()
    try_frames(switch, START + 5, True, True)
    switch.frame_arrived(START + 5, unsupported="of another size")
    try_frames(switch, START + 9, True)
    assert switch.mode is Mode.CAMERA


def test_does_not_return_within_a_second_of_a_change() -> None:
    switch = in_camera_mode()
    try_frames(switch, START + 0.9, True, True, True)
    assert switch.mode is Mode.CAMERA
    try_frames(switch, START + 1.1, True)
    assert switch.mode is Mode.RESTORED


def test_does_not_return_within_a_second_of_an_unsupported_frame() -> None:
    """Else a camera that now and then sends another size would flicker."""
    switch = in_camera_mode()
    switch.frame_arrived(START + 5, unsupported="of another size")
    try_frames(switch, START + 5.9, True, True, True)
    assert switch.mode is Mode.CAMERA
    try_frames(switch, START + 6.1, True)
    assert switch.mode is Mode.RESTORED


def test_a_stall_within_a_second_of_the_return_waits() -> None:
    switch = in_camera_mode()
    try_frames(switch, START + 5, True, True, True)
    switch.frame_arrived(START + 5.1)
    switch.check_stall(START + 5.9)
    assert switch.mode is Mode.RESTORED
    switch.check_stall(START + 6.1)
    assert switch.mode is Mode.CAMERA


def test_changes_at_most_once_a_second_however_it_goes() -> None:
    """A network that always fails, then always succeeds, at 30 frames a second."""
    switch = new_switch()
    changes: list[float] = []
    before = switch.mode
    for step in range(900):
        now = START + step / 30
        switch.frame_arrived(now)
        works = int(now) % 2 == 0
        if works and switch.mode is Mode.RESTORED:
            switch.output_sent()
        switch.frame_tried(works, now)
        switch.check_stall(now)
        if switch.mode is not before:
            changes.append(now)
            before = switch.mode
    assert len(changes) > 4
    assert min(b - a for a, b in itertools.pairwise(changes)) >= 0.99


@pytest.mark.parametrize("keeps", ["disabled", "problem"])
def test_does_not_return_while_something_keeps_it(keeps: str) -> None:
    switch = in_camera_mode()
    if keeps == "disabled":
        switch.set_enabled(False, START)
    else:
        switch.set_problem("no bundle", START)
    try_frames(switch, START + 5, True, True, True)
    assert switch.mode is Mode.CAMERA


def test_returns_when_enabled_again_by_frames_that_succeed() -> None:
    switch = new_switch()
    switch.set_enabled(False, START)
    switch.set_enabled(True, START + 5)
    assert (switch.mode, switch.reason) == (Mode.CAMERA, "until 3 frames in a row succeed")
    try_frames(switch, START + 5, True, True, True)
    assert switch.mode is Mode.RESTORED


def test_the_reason_is_the_latest() -> None:
    switch = in_camera_mode()
    switch.set_problem("no bundle", START)
    assert switch.reason == "no bundle"
    switch.set_enabled(False, START)
    assert switch.reason == "disabled"
    switch.set_enabled(True, START)
    assert switch.reason == "no bundle"


def test_frames_that_can_be_restored_are_not_said_to_be_of_another_encoding() -> None:
    switch = new_switch()
    switch.frame_arrived(START, "encoding '8UC3'")
    assert switch.reason == "encoding '8UC3'"
    switch.frame_arrived(START + 0.1)
    assert (switch.mode, switch.reason) == (Mode.CAMERA, "until 3 frames in a row succeed")
    switch.set_enabled(False, START + 0.2)
    switch.frame_arrived(START + 0.3)
    assert switch.reason == "disabled"


def test_an_engine_that_gets_ready_returns_with_its_first_good_frame() -> None:
    switch = new_switch()
    switch.set_problem("the bundle is being read", START)
    switch.engine_is_ready(START + 1)
    switch.size_changed("getting ready for 640x480 frames", START + 1.1)
    switch.engine_is_ready(START + 2)
    try_frames(switch, START + 2.1, True)
    assert switch.mode is Mode.RESTORED


def test_after_a_fault_three_frames_return_whatever_is_made_ready_before() -> None:
    """A camera whose size is not the bundle's has the engine loaded, then pinned."""
    switch = new_switch()
    switch.engine_failed("was ended by SIGKILL", START)
    switch.set_problem("the bundle is being read", START + 1)
    switch.engine_is_ready(START + 2)
    switch.size_changed("getting ready for 640x480 frames", START + 2.1)
    switch.engine_is_ready(START + 3)
    try_frames(switch, START + 3.1, True, True)
    assert switch.mode is Mode.CAMERA
    try_frames(switch, START + 3.2, True)
    assert switch.mode is Mode.RESTORED


def test_a_camera_that_keeps_changing_its_size_needs_three_frames() -> None:
    switch = new_switch()
    for now in (START, START + 5):
        switch.size_changed("getting ready for 640x480 frames", now)
        switch.engine_is_ready(now + 1)
    try_frames(switch, START + 7, True, True)
    assert switch.mode is Mode.CAMERA
    try_frames(switch, START + 7, True)
    assert switch.mode is Mode.RESTORED
    switch.size_changed("getting ready for 64x48 frames", START + 30)
    switch.engine_is_ready(START + 31)
    try_frames(switch, START + 31.1, True)
    assert switch.mode is Mode.RESTORED


def test_restored_mode_is_not_moved_by_frames_tried() -> None:
    switch = new_switch()
    try_frames(switch, START, False, False, True)
    assert switch.mode is Mode.RESTORED


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


def test_three_refusals_within_a_second_show_the_camera() -> None:
    switch = new_switch()
    for now in (START + 10, START + 10.4, START + 10.8):
        assert switch.mode is Mode.RESTORED
        switch.frame_refused(now)
    assert switch.mode is Mode.CAMERA
    assert switch.reason == "the guard refused 3 frames within a second"


def test_rare_refusals_change_nothing() -> None:
    switch = new_switch()
    for step in range(12):
        switch.frame_refused(START + 10 + 0.6 * step)
    assert switch.mode is Mode.RESTORED


def test_after_refusals_three_good_frames_return() -> None:
    switch = new_switch()
    for now in (START + 10, START + 10.1, START + 10.2):
        switch.frame_refused(now)
    try_frames(switch, START + 11.5, True, True)
    assert switch.mode is Mode.CAMERA
    try_frames(switch, START + 11.6, True)
    assert switch.mode is Mode.RESTORED


def test_refusals_before_the_first_restored_frame_say_why_the_camera_stays() -> None:
    switch = new_switch()
    switch.set_problem("the bundle is being read", START)
    switch.engine_is_ready(START + 1)
    for now in (START + 2, START + 2.1, START + 2.2):
        switch.frame_refused(now)
        switch.frame_tried(False, now)
    assert switch.reason == "the guard refused 3 frames within a second"
    try_frames(switch, START + 3, True)
    assert switch.mode is Mode.CAMERA
