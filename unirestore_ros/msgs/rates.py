"""How often something happens: over a recording, and over the last seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


def mean_rate(times_ns: Sequence[int] | NDArray[np.int64]) -> float | None:
    """Return events a second between the first and the last, in any order; None where no time lies
    between them."""
    times = np.asarray(times_ns, np.int64)
    span = int(np.ptp(times)) if times.size else 0
    return (times.size - 1) * 1e9 / span if span > 0 else None


class Summary(NamedTuple):
    """Figures of the last seconds; the values are nan where there were none."""

    rate_hz: float
    median: float
    p99: float


class RecentSeries:
    """The latest values of a series and when they came, in memory that does not grow.

    It remembers ``length`` values, of which those older than ``window_s`` do not count. Times are
    seconds of one steady clock. For one thread.
    """

    def __init__(self, window_s: float = 10.0, length: int = 512) -> None:
        self._window_s = window_s
        self._times = np.full(length, -np.inf)
        self._values = np.zeros(length)
        self._next = 0

    def add(self, value: float, now: float) -> None:
        self._times[self._next], self._values[self._next] = now, value
        self._next = (self._next + 1) % len(self._times)

    def rate_hz(self, now: float) -> float:
        """Return values a second. A series that has stopped fades, since its silence counts too."""
        times = self._times[self._times > now - self._window_s]
        if len(times) < 2:
            return 0.0
        first, last = times.min(), times.max()
        period = (last - first) / (len(times) - 1)
        # One period of silence is normal; 1 ms keeps a burst from having an infinite rate.
        return float((len(times) - 1) / max(now - first - period, last - first, 1e-3))

    def summary(self, now: float) -> Summary:
        values = self._values[self._times > now - self._window_s]
        if not len(values):
            return Summary(0.0, float("nan"), float("nan"))
        median, p99 = np.percentile(values, (50, 99))
        return Summary(self.rate_hz(now), float(median), float(p99))
