"""When frames are due."""

from __future__ import annotations

import pytest

from unirestore_ros.demo.pacing import paced
from unirestore_ros.msgs.rates import mean_rate

MS = 1_000_000


def test_frames_without_times_come_at_the_rate() -> None:
    assert paced([None, None, None], 5.0) == [0, 200 * MS, 400 * MS]


def test_slow_recording_keeps_its_times() -> None:
    assert paced([0, 300 * MS, 500 * MS], 5.0) == [0, 300 * MS, 500 * MS]


def test_fast_recording_is_stretched_evenly() -> None:
    due = paced([1000 * MS, 1030 * MS, 1050 * MS, 1100 * MS], 5.0)
    assert due == [0, 180 * MS, 300 * MS, 600 * MS]
    assert mean_rate(due) == pytest.approx(5.0)


def test_time_never_runs_backwards() -> None:
    assert paced([0, 500 * MS, 400 * MS, 900 * MS], 5.0) == [0, 500 * MS, 500 * MS, 900 * MS]


def test_frames_that_all_have_one_time_come_at_the_rate() -> None:
    assert paced([7, 7, 7], 4.0) == [0, 250 * MS, 500 * MS]


def test_few_frames() -> None:
    assert paced([], 5.0) == []
    assert paced([42], 5.0) == [0]
