"""What the node counts, measures and says about itself."""

from __future__ import annotations

import dataclasses
import time
from types import SimpleNamespace

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from unirestore_ros.node import diagnostics
from unirestore_ros.node.diagnostics import Drop, ErrorLog, Health, Statistics, diagnose
from unirestore_ros.node.fallback import Mode

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
WELL = Health(is_active=True, mode=Mode.RESTORED, reason="", enabled=True)


@pytest.mark.parametrize(
    ("changes", "level", "message"),
    [
        ({}, OK, "restored mode"),
        ({"is_active": False}, OK, "inactive"),
        ({"recent_drops": "frames were dropped: too old"}, WARN, "frames were dropped: too old"),
        ({"mode": Mode.CAMERA, "reason": "a stall"}, WARN, "camera mode: a stall"),
        (
            {"mode": Mode.CAMERA, "reason": "disabled", "enabled": False},
            OK,
            "camera mode: disabled",
        ),
        ({"silence": "nothing arrives"}, WARN, "nothing arrives"),
        ({"missing_tasks": "no prompt", "silence": "nothing"}, ERROR, "no prompt"),
        ({"bundle_problem": "no bundle", "missing_tasks": "no prompt"}, ERROR, "no bundle"),
        ({"bundle_problem": "no bundle", "is_active": False}, ERROR, "no bundle"),
    ],
)
def test_assess(changes: dict[str, object], level: bytes, message: str) -> None:
    assert dataclasses.replace(WELL, **changes).assess() == (level, message)


def test_a_dead_thread_comes_first() -> None:
    health = dataclasses.replace(WELL, thread_died=True, bundle_problem="no bundle")
    level, message = health.assess()
    assert level == ERROR and "restart the node" in message


def test_the_state_is_among_the_values() -> None:
    assert diagnose(WELL, {"mode": "restored"}).values == {"state": "active", "mode": "restored"}


def test_an_unknown_age_is_said_in_both_modes() -> None:
    note = "age unknown: camera clock is 12.0 s behind"
    assert dataclasses.replace(WELL, age_note=note).assess() == (WARN, note)
    disabled = dataclasses.replace(
        WELL, age_note=note, mode=Mode.CAMERA, reason="disabled", enabled=False
    )
    assert disabled.assess() == (WARN, f"camera mode: disabled; {note}")


def test_several_warnings_are_all_said() -> None:
    health = dataclasses.replace(
        WELL, age_note="age unknown: x", too_slow="only 2", recent_drops="d"
    )
    assert health.assess() == (WARN, "age unknown: x; only 2; d")
    camera = dataclasses.replace(health, mode=Mode.CAMERA, reason="a stall")
    assert camera.assess() == (WARN, "camera mode: a stall; age unknown: x; only 2; d")


class Drive:
    """Counts a camera's frames and the restored ones over simulated seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.statistics = Statistics()
        monkeypatch.setattr(diagnostics.time, "monotonic", lambda: self.now)

    def go(
        self, seconds: int, camera_hz: int, restored_hz: float, waits_for_speed: bool = True
    ) -> list[str | None]:
        """What is said at the end of each second."""
        said = []
        due = 0.0
        for _ in range(seconds):
            for _ in range(camera_hz):
                self.now += 1 / camera_hz
                self.statistics.count_arrival(self.now)
                due += restored_hz / camera_hz
                if due >= 1:
                    due -= 1
                    self.statistics.count_inference(20.0)
            said.append(self.statistics.too_slow(waits_for_speed))
        return said


def test_restoring_less_than_half_of_the_frames_for_5_s_is_too_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drive = Drive(monkeypatch)
    assert drive.go(10, 30, 20) == [None] * 10
    said = drive.go(12, 30, 2)
    assert said[:5] == [None] * 5
    assert said[-1] is not None and "only 2.0 of the camera's 30.0 frames/s" in said[-1]
    assert "~/set_enabled" in said[-1]
    assert drive.go(5, 30, 20)[-1] is None


@pytest.mark.parametrize(("camera_hz", "restored_hz"), [(30, 16), (10, 10), (30, 15.5)])
def test_fast_enough(monkeypatch: pytest.MonkeyPatch, camera_hz: int, restored_hz: float) -> None:
    assert set(Drive(monkeypatch).go(12, camera_hz, restored_hz)) == {None}


def test_no_restoring_is_not_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    drive = Drive(monkeypatch)
    assert set(drive.go(12, 30, 1, waits_for_speed=False)) == {None}
    assert set(drive.go(4, 30, 1)) == {None}


@pytest.mark.parametrize("cause", [Drop.FAILED, Drop.REFUSED, Drop.MALFORMED])
def test_frames_that_fail_are_not_slow(monkeypatch: pytest.MonkeyPatch, cause: Drop) -> None:
    drive = Drive(monkeypatch)
    for _ in range(12):
        drive.statistics.count_drop(cause)
        assert drive.go(1, 30, 1) == [None]


def test_restoring_nothing_at_all_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Drive(monkeypatch).go(9, 30, 0)[-1] is not None


def test_too_slow_is_logged_once_until_it_is_over() -> None:
    lines: list[str] = []
    log = ErrorLog(SimpleNamespace(warning=lines.append))
    for why in ("only 3 of 30", "only 2 of 30", None, None, "only 4 of 30"):
        log.too_slow(why)
    assert lines == ["only 3 of 30", "only 4 of 30"]


def test_values() -> None:
    statistics = Statistics()
    now = time.monotonic()
    for latency in np.arange(10.0, 20.0):
        statistics.count_arrival(now)
        statistics.count_published(latency, latency + 5)
        statistics.count_inference(latency - 5)
    for cause in (Drop.REPLACED, Drop.REPLACED, Drop.TOO_OLD):
        statistics.count_drop(cause)
    values = statistics.values()
    assert values["latency_median_ms"] == "14.5" and values["age_median_ms"] == "19.5"
    assert values["inference_median_ms"] == "9.5" and values["latency_p99_ms"] == "18.9"
    assert (values["dropped_replaced"], values["dropped_too_old"]) == ("2", "1")
    assert (values["dropped_malformed"], values["dropped_failed"]) == ("0", "0")


def test_recent_drops_name_what_should_not_be() -> None:
    statistics = Statistics()
    statistics.count_drop(Drop.REPLACED)
    assert statistics.recent_drops(Mode.RESTORED) is None
    statistics.count_drop(Drop.TOO_OLD)
    statistics.count_drop(Drop.MALFORMED, "a size of 0x0")
    dropped = "frames were dropped: too old, malformed (a size of 0x0)"
    assert statistics.recent_drops(Mode.RESTORED) == dropped


def test_in_camera_mode_malformed_frames_are_missed() -> None:
    """Every other frame is shown there, whatever became of restoring it."""
    statistics = Statistics()
    statistics.count_drop(Drop.TOO_OLD)
    assert statistics.recent_drops(Mode.CAMERA) is None
    statistics.count_drop(Drop.MALFORMED, "a size of 0x0")
    assert statistics.recent_drops(Mode.CAMERA) == "frames were dropped: malformed (a size of 0x0)"
