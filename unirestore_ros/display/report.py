"""What the display says of itself: to its page, and once a second in diagnostics."""

from __future__ import annotations

import math
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus

from unirestore_ros.display.compositor import Figures
from unirestore_ros.display.parameters import DisplayParameters
from unirestore_ros.display.selection import Verdict
from unirestore_ros.display.sources import Look
from unirestore_ros.display.view import Sign
from unirestore_ros.node.mode import DISABLED, Mode
from unirestore_ros.node.report import diagnostic

_LEVELS = {
    Sign.RESTORED: DiagnosticStatus.OK,
    Sign.CAMERA: DiagnosticStatus.WARN,
    Sign.UNCONFIRMED: DiagnosticStatus.WARN,
    Sign.WAITING: DiagnosticStatus.WARN,
    Sign.STALE: DiagnosticStatus.ERROR,
}
# Of the restorer's diagnostics, what a viewer may want to know.
_SHOWN = ("message", "backend", "bundle", "output_rate_hz", "latency_median_ms")


def is_enabled(told: Verdict) -> bool | None:
    """Whether the restorer restores if it can; None where it has not said."""
    if told.mode is None:
        return None
    return not (told.mode is Mode.CAMERA and told.reason == DISABLED)


def page_state(
    look: Look,
    told: Verdict,
    restorer: str,
    values: dict[str, str],
    tasks: dict[str, bool],
    settings: DisplayParameters,
    notice: tuple[int, str],
) -> dict[str, Any]:
    """For JSON."""
    return {
        "kind": "state",
        "sign": look.driver.sign.value,
        "reason": look.driver.reason,
        "enabled": is_enabled(told) if values else None,
        "restorer": {"name": restorer, **{key: values[key] for key in _SHOWN if key in values}},
        "tasks": tasks,
        "view": settings.view,
        "divider": settings.divider,
        "max_age_ms": settings.max_age_ms,
        "notice": {"number": notice[0], "text": notice[1]},
    }


def report(
    name: str, look: Look, is_watched: bool, figures: Figures, clients: int
) -> DiagnosticStatus:
    """Level and message say what the driver sees."""
    sign, reason = look.driver.sign, look.driver.reason
    level, message = _LEVELS[sign], ": ".join(filter(None, (sign.value, reason)))
    if not is_watched:
        level, message = DiagnosticStatus.OK, "nobody watches"
    values = {
        "sign": sign.value,
        "clients": str(clients),
        "rate_hz": f"{figures.fps:.1f}",
        "age_median_ms": _text(figures.age.median),
        "age_p99_ms": _text(figures.age.p99),
        "compose_median_ms": _text(figures.compose.median),
        "compose_p99_ms": _text(figures.compose.p99),
        "share_median_ms": _text(figures.share.median),
        "share_p99_ms": _text(figures.share.p99),
    }
    return diagnostic(name, level, message, values)


def _text(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1f}"
