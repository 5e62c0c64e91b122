"""Rates over a recording, and over the last seconds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unirestore_ros.msgs.rates import RecentSeries, mean_rate


@pytest.mark.parametrize(
    ("times", "expected"),
    [([], None), ([5], None), ([5, 5], None), ([0, 10**9, 2 * 10**9], 1.0), ([10**9, 0], 1.0)],
)
def test_mean_rate(times: list[int], expected: float | None) -> None:
    assert mean_rate(times) == expected
    assert mean_rate(np.asarray(times, np.int64)) == expected


def filled(period: float, count: int, start: float = 50.0) -> tuple[RecentSeries, float]:
    """A window with values 0, 1, 2, ... and the time of the last."""
    window = RecentSeries()
    for index in range(count):
        window.add(float(index), start + index * period)
    return window, start + (count - 1) * period


def test_empty() -> None:
    summary = RecentSeries().summary(5.0)
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


def test_a_shorter_window_sees_the_last_seconds_only() -> None:
    series = RecentSeries(window_s=2.0)
    assert series.rate_hz(0.0) == 0.0
    for step in range(100):
        series.add(0.0, step / 10)
    assert series.rate_hz(9.9) == pytest.approx(10)
    assert series.rate_hz(20.0) == 0.0
