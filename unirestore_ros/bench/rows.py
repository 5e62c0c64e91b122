"""What a bench writes: one row for each kind of work, from times measured in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypedDict

import numpy as np


class Row(TypedDict, total=False):
    """``what``: published/N-outputs, ours/N-outputs or part/NAME. ``stride``: of the features; None
    where the work does not depend on it. ``psnr_to_fp32_db``: by output, where it was measured."""

    what: str
    backend: str
    precision: str
    stride: int | None
    median_ms: float
    p99_ms: float
    runs: int
    psnr_to_fp32_db: dict[str, float]


class Work(NamedTuple):
    what: str
    precision: str
    stride: int | None
    backend: str


class Times(dict[Work, list[float]]):
    """Milliseconds of each run, by kind of work."""

    def timed(self, work: Work, call: Callable[[], object]) -> float:
        """Run it once; milliseconds."""
        started = time.perf_counter()
        call()
        spent = (time.perf_counter() - started) * 1e3
        self.setdefault(work, []).append(spent)
        return spent

    def rows(self) -> list[Row]:
        return [
            {
                **work._asdict(),  # type: ignore[typeddict-item]
                "median_ms": round(float(np.median(times)), 2),
                "p99_ms": round(float(np.percentile(times, 99)), 2),
                "runs": len(times),
            }
            for work, times in self.items()
        ]


def timed_in_turn(works: Mapping[Work, Callable[[], object]], warm_up: int, runs: int) -> list[Row]:
    """Every kind of work once in each of ``runs`` turns, after some to warm up."""
    for turn in range(warm_up + runs):
        if turn <= warm_up:
            times = Times()
        for work, call in works.items():
            times.timed(work, call)
    return times.rows()
