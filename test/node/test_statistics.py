"""Windows of the last seconds, and counts."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from unirestore_ros.node.statistics import Drop, Statistics, Window


def filled(period: float, count: int, start: float = 50.0) -> tuple[Window, float]:
    """A window with values 0, 1, 2, ... and the time of the last."""
    window = Window()
    for index in range(count):
        window.add(float(index), start + index * period)
    return window, start + (count - 1) * period


def test_empty() -> None:
    summary = Window().summary(5.0)
    assert summary.rate_hz == 0 and math.isnan(summary.median) and math.isnan(summary.p99)


def test_median_and_p99() -> None:
    window, last = filled(0.01, 101)
    summary = window.summary(last)
    assert (summary.median, summary.p99) == (50.0, 99.0)


@pytest.mark.parametrize("rate", [1.0, 7.0, 30.0])
def test_rate(rate: float) -> None:
    window, last = filled(1 / rate, 200)
    assert window.summary(last).rate_hz == pytest.approx(rate, rel=0.01)
    assert window.summary(last + 0.9 / rate).rate_hz == pytest.approx(rate, rel=0.01)


def test_the_rate_of_what_has_stopped_fades() -> None:
    window, last = filled(1 / 30, 200)
    assert 5.0 < window.summary(last + 8.0).rate_hz < 15.0
    assert window.summary(last + 10.1).rate_hz == 0.0


def test_old_values_do_not_count() -> None:
    window, last = filled(0.1, 10)
    window.add(1000.0, last + 20)
    assert window.summary(last + 20).median == 1000.0


def test_it_does_not_grow() -> None:
    window, last = filled(0.001, 5000)
    assert window.summary(last).median == pytest.approx(5000 - 512 / 2, abs=1)


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
    assert statistics.recent_drops() is None
    statistics.count_drop(Drop.TOO_OLD)
    statistics.count_drop(Drop.MALFORMED)
    assert statistics.recent_drops() == "frames were dropped: too old, malformed"
