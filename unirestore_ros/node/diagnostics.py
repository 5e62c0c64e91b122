"""What the node says of itself once a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticStatus

from unirestore_ros.node.mode import Mode


@dataclass(frozen=True)
class Health:
    """All that the level and the message depend on, in a configured node."""

    is_active: bool
    mode: Mode
    reason: str
    """Why it is camera mode."""
    enabled: bool
    bundle_problem: str | None = None
    missing_tasks: str | None = None
    thread_died: bool = False
    silence: str | None = None
    recent_drops: str | None = None


class Diagnosis(NamedTuple):
    level: bytes
    message: str
    values: dict[str, str]


UNCONFIGURED = Diagnosis(DiagnosticStatus.OK, "unconfigured", {"state": "unconfigured"})


def diagnose(health: Health, values: dict[str, str]) -> Diagnosis:
    state = "active" if health.is_active else "inactive"
    level, message = assess(health)
    return Diagnosis(level, message, {"state": state, **values})


def assess(health: Health) -> tuple[bytes, str]:
    """Level and message: the worst first."""
    if health.thread_died:
        how = "the thread that restores has died (its error is on stderr): restart the node"
        return DiagnosticStatus.ERROR, how
    for error in (health.bundle_problem, health.missing_tasks):
        if error:
            return DiagnosticStatus.ERROR, error
    if not health.is_active:
        return DiagnosticStatus.OK, "inactive"
    if health.silence:
        return DiagnosticStatus.WARN, health.silence
    if health.mode is Mode.CAMERA:
        level = DiagnosticStatus.WARN if health.enabled else DiagnosticStatus.OK
        return level, f"camera mode: {health.reason}"
    if health.recent_drops:
        return DiagnosticStatus.WARN, health.recent_drops
    return DiagnosticStatus.OK, "restored mode"
