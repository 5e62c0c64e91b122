"""The level follows what is wrong, the worst first."""

from __future__ import annotations

import dataclasses

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from unirestore_ros.node.diagnostics import Health, assess, diagnose
from unirestore_ros.node.mode import Mode

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
    assert assess(dataclasses.replace(WELL, **changes)) == (level, message)


def test_a_dead_thread_comes_first() -> None:
    health = dataclasses.replace(WELL, thread_died=True, bundle_problem="no bundle")
    level, message = assess(health)
    assert level == ERROR and "restart the node" in message


def test_the_state_is_among_the_values() -> None:
    assert diagnose(WELL, {"mode": "restored"}).values == {"state": "active", "mode": "restored"}
