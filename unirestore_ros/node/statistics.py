"""What the node counts and measures, in memory that does not grow."""

from __future__ import annotations

import threading
import time
from enum import Enum

from unirestore_ros.msgs.rates import RecentSeries

_WINDOW_S = 10.0


class Drop(Enum):
    """Why a frame went no further; the values are the names in diagnostics."""

    REPLACED = "replaced"
    TOO_OLD = "too_old"
    MALFORMED = "malformed"
    FAILED = "failed"


class Statistics:
    """Counted from several threads. Times in seconds of the steady clock, durations in ms."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrivals = RecentSeries()
        self._latency = RecentSeries()
        self._age = RecentSeries()
        self._inference = RecentSeries()
        self._drops = dict.fromkeys(Drop, 0)
        self._last_drop: dict[Drop, float] = {}

    def count_arrival(self, now: float) -> None:
        with self._lock:
            self._arrivals.add(0.0, now)

    def count_published(self, latency_ms: float, age_ms: float) -> None:
        """Latency from the frame's arrival, age from its stamp, both at publication."""
        now = time.monotonic()
        with self._lock:
            self._latency.add(latency_ms, now)
            self._age.add(age_ms, now)

    def count_inference(self, duration_ms: float) -> None:
        """A frame's whole turn, with all that was made of it."""
        with self._lock:
            self._inference.add(duration_ms, time.monotonic())

    def count_drop(self, cause: Drop) -> None:
        with self._lock:
            self._drops[cause] += 1
            self._last_drop[cause] = time.monotonic()

    def recent_drops(self) -> str | None:
        """What was lost in the last seconds that should not be; replaced frames are no loss."""
        now = time.monotonic()
        with self._lock:
            recent = [
                cause.value.replace("_", " ")
                for cause, when in self._last_drop.items()
                if cause is not Drop.REPLACED and now - when < _WINDOW_S
            ]
        return f"frames were dropped: {', '.join(recent)}" if recent else None

    def values(self) -> dict[str, str]:
        """Keys and values as diagnostics have them."""
        now = time.monotonic()
        with self._lock:
            arrivals, latency, age, inference = (
                window.summary(now)
                for window in (self._arrivals, self._latency, self._age, self._inference)
            )
            drops = {f"dropped_{cause.value}": str(count) for cause, count in self._drops.items()}
        return {
            "input_rate_hz": f"{arrivals.rate_hz:.1f}",
            "output_rate_hz": f"{latency.rate_hz:.1f}",
            "latency_median_ms": f"{latency.median:.1f}",
            "latency_p99_ms": f"{latency.p99:.1f}",
            "age_median_ms": f"{age.median:.1f}",
            "age_p99_ms": f"{age.p99:.1f}",
            "inference_median_ms": f"{inference.median:.1f}",
            "inference_p99_ms": f"{inference.p99:.1f}",
            **drops,
        }
