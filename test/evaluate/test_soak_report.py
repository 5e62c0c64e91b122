"""The figures of a soak: memory over the whole time, and within the lives of processes."""

from __future__ import annotations

import pytest

from unirestore_ros.evaluate.soak_report import Sample, slope, trend


def samples_of(lives: list[list[float]]) -> list[Sample]:
    """One sample a minute; in each life the engine holds these MB, one after the other, the node
    100."""
    samples: list[Sample] = []
    for pid, life in enumerate(lives):
        for engine_mb in life:
            held = {"node": 100.0, "engine": engine_mb}
            pids = {"node": 1, "engine": 10 + pid}
            samples.append(Sample(60.0 * len(samples), pids, held, held, {}, {}, 0.0))
    return samples


def test_a_leak_shows_in_both_slopes() -> None:
    leaking = samples_of([[200.0 + 3 * minute for minute in range(20)]])
    assert trend(leaking, ("node", "engine")) == pytest.approx(3.0)
    assert slope(leaking, "engine") == pytest.approx(3.0)
    assert slope(leaking, "node") == pytest.approx(0.0)


def test_what_each_life_takes_once_is_no_trend() -> None:
    climbing = samples_of([[200.0, 200.0, 200.0, 235.0]] * 20)
    assert abs(trend(climbing, ("node", "engine"))) < 0.2
    assert slope(climbing, "engine") > 5.0
    assert trend(climbing[:1], ("node",)) == 0.0
