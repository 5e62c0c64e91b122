"""What the node counts, measures and says about itself."""

from __future__ import annotations

import math
import threading
import time
import traceback
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.impl.rcutils_logger import RcutilsLogger

from unirestore_ros.msgs.rates import RecentSeries
from unirestore_ros.node.fallback import Mode

AGE_NOTE = "age_note"
"""Key, in `~/status`, of why the age of frames is unknown; absent where it is known."""

_LOG_EVERY_S = 5.0
_RECENT_S = 10.0
# Rates are compared over the first, and must differ for the second.
_COMPARED_S, _SLOW_FOR_S = 2.5, 5.0


class Drop(Enum):
    """Why a frame went no further; the values are the names in diagnostics."""

    REPLACED = "replaced"
    TOO_OLD = "too_old"
    MALFORMED = "malformed"
    FAILED = "failed"
    REFUSED = "refused_by_guard"
    UNFORESEEN = "unforeseen_error"


_NOT_SLOW = (Drop.MALFORMED, Drop.FAILED, Drop.REFUSED)


class Statistics:
    """Rates, durations and drops, for any thread. Times are seconds of the steady clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrivals = RecentSeries()
        self._latency = RecentSeries()
        self._age = RecentSeries()
        self._inference = RecentSeries()
        self._camera_rate = RecentSeries(_COMPARED_S)
        self._restored_rate = RecentSeries(_COMPARED_S)
        self._slow_since: float | None = None
        self._drops = dict.fromkeys(Drop, 0)
        self._last_drop: dict[Drop, float] = {}
        self._last_fault = ""

    def count_arrival(self, now: float) -> None:
        with self._lock:
            self._arrivals.add(0.0, now)
            self._camera_rate.add(0.0, now)

    def count_published(self, latency_ms: float, age_ms: float) -> None:
        """Count a published frame: its latency since arrival and its age since the stamp."""
        now = time.monotonic()
        with self._lock:
            self._latency.add(latency_ms, now)
            self._age.add(age_ms, now)

    def count_inference(self, duration_ms: float) -> None:
        """Count the time of the whole work on one frame, with all its outputs."""
        now = time.monotonic()
        with self._lock:
            self._inference.add(duration_ms, now)
            self._restored_rate.add(0.0, now)

    def count_drop(self, cause: Drop, fault: str = "") -> None:
        """``fault``: what is wrong with a frame that is malformed."""
        with self._lock:
            self._drops[cause] += 1
            self._last_drop[cause] = time.monotonic()
            self._last_fault = fault or self._last_fault

    def recent_drops(self, mode: Mode) -> str | None:
        """Say why frames were lost in the last seconds. One that a newer one replaced is no loss,
        and in camera mode only one that is malformed is not shown."""
        now = time.monotonic()
        with self._lock:
            recent = [
                self._named(cause)
                for cause, when in self._last_drop.items()
                if cause is not Drop.REPLACED and now - when < _RECENT_S
                if mode is Mode.RESTORED or cause in (Drop.MALFORMED, Drop.UNFORESEEN)
            ]
        return f"frames were dropped: {', '.join(recent)}" if recent else None

    def _named(self, cause: Drop) -> str:
        name = cause.value.replace("_", " ")
        return f"{name} ({self._last_fault})" if cause is Drop.MALFORMED else name

    def too_slow(self, waits_for_speed: bool) -> str | None:
        """Say what to do where fewer than half of the camera's frames have been restored for 5 s;
        to be called once a second.

        ``waits_for_speed``: nothing else than the time that frames take keeps them from the driver.
        Camera mode that a stall caused is such a case, and the one that needs the advice most.
        """
        now = time.monotonic()
        with self._lock:
            camera, restored = self._camera_rate.rate_hz(now), self._restored_rate.rate_hz(now)
            # Frames that fail are not slow, and have warnings of their own.
            lost = max(self._last_drop.get(cause, -math.inf) for cause in _NOT_SLOW)
        if not waits_for_speed or restored >= camera / 2 or now - lost < _COMPARED_S:
            self._slow_since = None
            return None
        if self._slow_since is None:
            self._slow_since = now
        if now - self._slow_since < _SLOW_FOR_S:
            return None
        return (
            f"only {restored:.1f} of the camera's {camera:.1f} frames/s are restored: lower the"
            " camera's rate or size, subscribe fewer outputs, restore fewer cameras, use a GPU, or"
            " switch restoring off (~/set_enabled); see docs/howto/tuning_latency.md"
        )

    def values(self) -> dict[str, str]:
        """Return keys and values as diagnostics have them."""
        now = time.monotonic()
        with self._lock:
            values = {
                "input_rate_hz": f"{self._arrivals.rate_hz(now):.1f}",
                "output_rate_hz": f"{self._latency.rate_hz(now):.1f}",
            }
            for name in ("latency", "age", "inference"):
                summary = getattr(self, f"_{name}").summary(now)
                values[f"{name}_median_ms"] = f"{summary.median:.1f}"
                values[f"{name}_p99_ms"] = f"{summary.p99:.1f}"
            drops = {f"dropped_{cause.value}": str(count) for cause, count in self._drops.items()}
        return {**values, **drops}


class ErrorLog:
    """Logs what goes wrong and keeps the last error for diagnostics, for any thread. Each kind is
    logged every 5 s at most, since a camera can fail 30 times a second."""

    def __init__(self, logger: RcutilsLogger) -> None:
        self.last_error = ""
        self._unforeseen, self._unforeseen_at = "", float("-inf")
        self._mismatch = ""
        self._is_slow = False
        self._logger = logger

    def bundle_refused(self, why: str) -> None:
        self.last_error = why
        self._logger.error(why)

    def engine_lost(self, why: str) -> None:
        self.last_error = why
        self._logger.error(f"{why}; the camera's picture is shown meanwhile")

    def unforeseen(self, error: Exception) -> None:
        """Log an error of this program, which is not to end it."""
        self.last_error = self._unforeseen = f"{type(error).__name__}: {error}"
        self._unforeseen_at = time.monotonic()
        text = "".join(traceback.format_exception(error))
        self._logger.error(text, throttle_duration_sec=_LOG_EVERY_S)

    def image_not_shown(self, why: str) -> None:
        self._logger.warning(
            f"an image that cannot be shown: {why}", throttle_duration_sec=_LOG_EVERY_S
        )

    def overlay_left_out(self, what: str, error: Exception) -> None:
        text = f"{what} left out, which cannot be drawn: {type(error).__name__}: {error}"
        self._logger.error(text, throttle_duration_sec=_LOG_EVERY_S)

    def recent_unforeseen(self) -> str | None:
        """Name an error of this program in the last seconds."""
        if time.monotonic() - self._unforeseen_at > _RECENT_S:
            return None
        return f"an error of this program, please report it: {self._unforeseen}"

    def inference_failed(self, why: str) -> None:
        self.last_error = why
        self._logger.error(f"frame not restored: {why}", throttle_duration_sec=_LOG_EVERY_S)

    def frame_refused(self, why: str) -> None:
        self.last_error = f"frame shown as the camera's: {why}"
        self._logger.warning(self.last_error, throttle_duration_sec=_LOG_EVERY_S)

    def frame_malformed(self, why: str) -> None:
        self.last_error = f"malformed frame dropped: {why}"
        self._logger.warning(self.last_error, throttle_duration_sec=_LOG_EVERY_S)

    def info_mismatched(self, why: str) -> None:
        """Log the problem once, although each frame shows it again."""
        if why != self._mismatch:
            self._mismatch = self.last_error = why
            self._logger.warning(f"no camera_info of feature maps: {why}")

    def too_slow(self, why: str | None) -> None:
        """Log that too few frames are restored, once until that is over (None)."""
        if why is not None and not self._is_slow:
            self._logger.warning(why)
        self._is_slow = why is not None

    def input_silent(self, why: str) -> None:
        self._logger.warning(why, throttle_duration_sec=6 * _LOG_EVERY_S)


@dataclass(frozen=True)
class Health:
    """Everything that the level and the message of a configured node depend on."""

    is_active: bool
    mode: Mode
    reason: str
    """Why it is camera mode."""
    enabled: bool
    bundle_problem: str | None = None
    missing_tasks: str | None = None
    unforeseen: str | None = None
    """An error of the program that cost a frame."""
    thread_died: bool = False
    silence: str | None = None
    age_note: str | None = None
    """What is said where the age of frames is unknown."""
    too_slow: str | None = None
    recent_drops: str | None = None

    def assess(self) -> tuple[bytes, str]:
        """Return level and message of the worst problem."""
        if self.thread_died:
            fix = "the thread that restores has died (its error is on stderr): restart the node"
            return DiagnosticStatus.ERROR, fix
        for error in (self.bundle_problem, self.missing_tasks, self.unforeseen):
            if error:
                return DiagnosticStatus.ERROR, error
        if not self.is_active:
            return DiagnosticStatus.OK, "inactive"
        if self.silence:
            return DiagnosticStatus.WARN, self.silence
        warnings = [self.age_note, self.too_slow, self.recent_drops]
        message = "; ".join(filter(None, warnings))
        level = DiagnosticStatus.WARN if message else DiagnosticStatus.OK
        if self.mode is Mode.RESTORED:
            return level, message or "restored mode"
        camera_mode = f"camera mode: {self.reason}"
        level = DiagnosticStatus.WARN if self.enabled else level
        return level, f"{camera_mode}; {message}" if message else camera_mode


class Diagnosis(NamedTuple):
    """One entry of `/diagnostics`."""

    level: bytes
    message: str
    values: dict[str, str]


UNCONFIGURED = Diagnosis(DiagnosticStatus.OK, "unconfigured", {"state": "unconfigured"})


def with_namesakes(diagnosis: Diagnosis, count: int, name: str) -> Diagnosis:
    """Return the diagnosis of a node whose full name ``count`` nodes of the graph have: they take
    each other's service calls, and their topics are mixed."""
    if count <= 1:
        return diagnosis
    text = (
        f"{count} nodes are named {name}: end one, or give it another name"
        " (one that was killed counts for 3 to 20 s more)"
    )
    level = max(diagnosis.level, DiagnosticStatus.WARN)
    return Diagnosis(level, f"{text}; {diagnosis.message}", diagnosis.values)


def diagnose(health: Health, values: dict[str, str]) -> Diagnosis:
    state = "active" if health.is_active else "inactive"
    return Diagnosis(*health.assess(), {"state": state, **values})


def diagnostic(name: str, level: bytes, message: str, values: dict[str, str]) -> DiagnosticStatus:
    """Make the ROS message of a level, a message and values."""
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(name=name, level=level, message=message, values=pairs)
