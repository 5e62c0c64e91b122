"""When the messages of a topic came, and what that says: rate, gaps, ages, missing ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from unirestore_ros.msgs.rates import mean_rate


class Series:
    """Times of one topic, in nanoseconds; a message without a header has a stamp of None."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.times: list[int] = []
        self.stamps: list[int] = []

    def add(self, time_ns: int, stamp_ns: int | None) -> None:
        self.times.append(time_ns)
        if stamp_ns is not None:
            self.stamps.append(stamp_ns)

    def report(self) -> dict[str, Any]:
        """As JSON has it: null where there is nothing to say."""
        return {
            "type": self.kind,
            "messages": len(self.times),
            "hz": _rounded(mean_rate(self.times)),
            "gap_ms": percentiles_ms(np.diff(sorted(self.times))),
            "age_ms": self._ages(),
        }

    def share_of(self, stamps: set[int]) -> float | None:
        """Which part of those stamps arrived; by number where messages have no header."""
        if not stamps:
            return None
        arrived = (
            len(stamps & set(self.stamps)) if self.stamps else min(len(self.times), len(stamps))
        )
        return round(arrived / len(stamps), 4)

    def _ages(self) -> dict[str, float] | None:
        if not self.stamps or len(self.stamps) != len(self.times):
            return None
        return percentiles_ms(np.subtract(self.times, self.stamps))


def percentiles_ms(values_ns: np.ndarray) -> dict[str, float] | None:
    if len(values_ns) == 0:
        return None
    p50, p99, largest = np.percentile(values_ns, (50, 99, 100)) / 1e6
    return {
        "p50": round(float(p50), 2),
        "p99": round(float(p99), 2),
        "max": round(float(largest), 2),
    }


def topic_rows(topics: dict[str, dict[str, Any]]) -> list[list[object]]:
    """Topic, messages, rate, gap and age of reports."""
    return [
        [topic, each["messages"], each["hz"], *_pair(each["gap_ms"]), *_pair(each["age_ms"])]
        for topic, each in topics.items()
    ]


TOPIC_HEAD = ("topic", "messages", "Hz", "gap p50", "p99 ms", "age p50", "p99 ms")


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 3)


def _pair(figures: dict[str, float] | None) -> list[object]:
    return [figures["p50"], figures["p99"]] if figures else [None, None]
