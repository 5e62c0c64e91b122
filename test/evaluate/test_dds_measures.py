"""Figures of the measures over DDS, from what was heard."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from unirestore_ros.evaluate.dds_measures import (
    family,
    growth,
    latency,
    memory_mb,
    percentiles,
    rate,
    resident_together_mb,
    settled,
)

SECOND = 10**9


def heard(seconds: float, period_s: float, delay_ms: float) -> np.ndarray:
    arrivals = np.arange(0, seconds, period_s) * SECOND
    return np.stack([arrivals - delay_ms * 1e6, arrivals], axis=1).astype(np.int64)


def test_the_first_seconds_do_not_count() -> None:
    seen = heard(10, 0.1, 20)
    seen[:30, 0] -= SECOND  # late while all is starting
    assert settled(seen)[0, 1] > 5 * SECOND
    assert latency(seen).max() == pytest.approx(20)
    assert rate(seen) == pytest.approx(10)


def test_nothing_heard_is_no_rate() -> None:
    assert rate(np.empty((0, 2), np.int64)) == 0.0
    assert rate(heard(6, 2, 0)) == 0.0


def test_percentiles() -> None:
    assert percentiles(np.arange(101.0)) == {"median": 50.0, "p99": 99.0}


def test_growth_is_from_the_first_fifth_to_the_end() -> None:
    samples = [(float(t), {"resident": 100.0 + t, "own": 50.0}) for t in range(1, 301)]
    assert growth(samples, 300.0) == {"resident": pytest.approx(231, abs=1), "own": 0.0}


def test_growth_of_a_short_run_is_a_number() -> None:
    samples = [(float(t), {"own": 50.0 + t}) for t in range(10)]
    assert growth(samples, 10.0) == {"own": pytest.approx(7)}


def test_memory_that_two_processes_share_counts_once() -> None:
    """The same process twice: what is its own counts twice, the files that it maps once."""
    own = os.getpid()
    once, twice = resident_together_mb([own]), resident_together_mb([own, own])
    assert once == pytest.approx(memory_mb(own)["resident"], rel=0.05)
    assert twice - once == pytest.approx(memory_mb(own)["own"], rel=0.1)


def test_children_are_of_the_family() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in family(os.getpid())
        child.communicate(b"\n")
