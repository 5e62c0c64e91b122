"""What a bench writes: one row for each kind of work, from times measured in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypedDict

import numpy as np


class Row(TypedDict, total=False):
    """``what``: published/N-outputs, ours/N-outputs or part/NAME. ``stride``: of the features; None
    where the work does not depend on it. ``median_cpu_ms``: processor time of all threads, which
    other work on the machine disturbs less. ``psnr_to_fp32_db``: by output, where measured."""

    what: str
    backend: str
    precision: str
    stride: int | None
    median_ms: float
    p99_ms: float
    median_cpu_ms: float
    runs: int
    psnr_to_fp32_db: dict[str, float]


class Work(NamedTuple):
    what: str
    precision: str
    stride: int | None
    backend: str


class Spent(NamedTuple):
    """Milliseconds on the clock, and of the processor."""

    clock: float
    processor: float


def spent_by(call: Callable[[], object]) -> Spent:
    clock, processor = time.perf_counter(), time.process_time()
    call()
    return Spent((time.perf_counter() - clock) * 1e3, (time.process_time() - processor) * 1e3)


def total(spent: Sequence[Spent]) -> Spent:
    return Spent(sum(one.clock for one in spent), sum(one.processor for one in spent))


class Times(dict[Work, list[Spent]]):
    """What each run took, by kind of work."""

    def add(self, work: Work, spent: Spent) -> None:
        self.setdefault(work, []).append(spent)

    def timed(self, work: Work, call: Callable[[], object]) -> Spent:
        """Run it once."""
        spent = spent_by(call)
        self.add(work, spent)
        return spent

    def rows(self) -> list[Row]:
        return [_row(work, spent) for work, spent in self.items()]


def _row(work: Work, spent: Sequence[Spent]) -> Row:
    clock = [one.clock for one in spent]
    return {
        "what": work.what,
        "backend": work.backend,
        "precision": work.precision,
        "stride": work.stride,
        "median_ms": round(float(np.median(clock)), 2),
        "p99_ms": round(float(np.percentile(clock, 99)), 2),
        "median_cpu_ms": round(float(np.median([one.processor for one in spent])), 2),
        "runs": len(spent),
    }


def timed_in_turn(works: Mapping[Work, Callable[[], object]], warm_up: int, runs: int) -> list[Row]:
    """Time every kind of work once in each of ``runs`` turns, after some to warm up."""
    for turn in range(warm_up + runs):
        if turn <= warm_up:
            times = Times()
        for work, call in works.items():
            times.timed(work, call)
    return times.rows()
