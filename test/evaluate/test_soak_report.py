"""The figures of a soak: memory over the whole time, and within the lives of processes."""

from __future__ import annotations

import pytest

from unirestore_ros.evaluate.soak_faults import Fault
from unirestore_ros.evaluate.soak_report import Outcome, Result, Sample, slope, tables, trend


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


def test_each_row_says_how_many_gaps_were_over_the_bound() -> None:
    """Beyond the camera's own; and a gap alone fails nothing: how busy the machine is decides no
    test."""
    kinds = {
        "killed": Fault("killed", "engine", lambda _: None),
        "hung": Fault("hung", "engine", lambda _: None, hangs=True),
        "node gone": Fault("node gone", "node", lambda _: None, picture_goes_on=False),
    }
    gaps = [
        ("killed", 0.2, 0.03),
        ("killed", 0.3, 0.03),
        ("killed", 0.29, 0.1),  # the camera itself paused
        ("hung", 0.7, 0.03),
        ("node gone", 9.0, 0.03),
    ]
    outcomes = tuple(Outcome(kinds[name], 0.0, 1.0, gap, own, 0.1, ()) for name, gap, own in gaps)
    result = Result(0.0, 0.0, outcomes, (), 0, {}, (), (), (), 0, 0.0)
    summary = result.summary()
    rows = {row["fault"]: row["over_the_bound"] for row in summary["rows"]}
    assert rows == {"killed": 1, "hung": 0, "node gone": None}
    assert summary["gaps_over_the_bound"] == 1
    text = tables(result)
    assert "| gaps over the bound | 1 |" in text
    assert "| killed | 3 | 3 | 0.30 s | 0.03 s | 1 |" in text
    assert "| hung | 1 | 1 | 0.70 s | 0.03 s | 0 |" in text
    assert "| node gone | 1 | 1 | 9.00 s | 0.03 s | - |" in text
    assert not result.failed
