"""The mode switch: when the driver sees restored frames, and when the camera's."""

from __future__ import annotations

import itertools

import pytest

from unirestore_ros.node.fallback import FRAMES_TO_RETURN, Mode, ModeSwitch

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
