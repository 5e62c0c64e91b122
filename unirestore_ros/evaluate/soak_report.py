"""What a soak found, as tables and as JSON."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unirestore_ros.evaluate.soak_faults import Fault
from unirestore_ros.evaluate.soak_station import Arrival

PERIOD_S = 1 / 30
# How long the image may pause beyond the camera's period, and how much longer in a hang.
_PAUSE_S, _HANG_S = 0.2, 0.5
# The first seconds of a process take memory that it keeps.
_WARM_AFTER_S = 20.0
_SECONDS_PER_MINUTE = 60.0
_EVERY_SAMPLES = 10


@dataclasses.dataclass(frozen=True)
class Sample:
    """Node, engine process and display at one moment, by their names."""

    at: float
    pids: Mapping[str, int]
    memory_mb: Mapping[str, float]
    """What is the process's own."""
    resident_mb: Mapping[str, float]
    """The same with files and shared memory, which grows with the peers that Fast DDS knows."""
    threads: Mapping[str, int]
    descriptors: Mapping[str, int]
    shared_memory_mb: float


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one fault; times are seconds of the steady clock."""

    fault: Fault
    began: float
    ended: float
    longest_gap_s: float
    """Longest pause of ``~/image``."""
    camera_gap_s: float
    """Longest pause of the camera itself that reaches into that."""
    recovery_s: float | None
    """From the end of the fault to restored frames; None where they did not come."""
    failures: tuple[str, ...]

    @property
    def gap_within_bound(self) -> bool | None:
        """Whether the image paused no longer than it may beyond the pause of the camera itself;
        None where camera or node did not run. It decides no test: other programs on the machine
        lengthen gaps too."""
        if not self.fault.picture_goes_on:
            return None
        period_s = max(PERIOD_S, self.camera_gap_s)
        return self.longest_gap_s <= period_s + _PAUSE_S + (_HANG_S if self.fault.hangs else 0.0)


@dataclasses.dataclass(frozen=True)
class Result:
    began: float
    calm_s: float
    """Length of the stretches without faults at the beginning and at the end."""
    outcomes: tuple[Outcome, ...]
    arrivals: tuple[Arrival, ...]
    frames_sent: int
    drops: Mapping[str, int]
    problems: tuple[str, ...]
    crashes: tuple[str, ...]
    samples: tuple[Sample, ...]
    tracebacks: int
    shared_memory_after_mb: float
    displayed: int = 0
    """Images of the display whose scene and sign were compared with the frame's."""

    @property
    def failed(self) -> bool:
        return bool(
            self.problems
            or self.crashes
            or self.tracebacks
            or any(outcome.failures for outcome in self.outcomes)
        )

    def summary(self) -> dict[str, Any]:
        kinds = collections.Counter(arrival.kind for arrival in self.arrivals)
        return {
            "frames_sent": self.frames_sent,
            "images": len(self.arrivals),
            "images_by_kind": dict(kinds),
            "images_of_the_display_judged": self.displayed,
            "dropped": dict(self.drops),
            "faults": len(self.outcomes),
            "faults_survived": sum(not outcome.failures for outcome in self.outcomes),
            "longest_gap_s": self.longest_gap(hangs=False),
            "longest_gap_of_hangs_s": self.longest_gap(hangs=True),
            "gaps_over_the_bound": _over_the_bound(self.outcomes),
            "memory_slope_mb_per_minute": {
                "node and engine": round(trend(self.samples, ("node", "engine")), 3),
                "display": round(trend(self.samples, ("display",)), 3),
            },
            "memory_slope_within_lives_mb_per_minute": {
                name: round(slope(self.samples, name), 3) for name in ("node", "engine", "display")
            },
            "first": self._stretch(first=True),
            "last": self._stretch(first=False),
            "memory": [self._memory(sample) for sample in self.samples[::_EVERY_SAMPLES]],
            "shared_memory_after_mb": round(self.shared_memory_after_mb, 1),
            "tracebacks": self.tracebacks,
            "crashes": list(self.crashes),
            "wrong_images": list(self.problems[:50]),
            "rows": [_row(name, of_name) for name, of_name in _by_fault(self.outcomes).items()],
        }

    def _memory(self, sample: Sample) -> dict[str, Any]:
        """One point of the course of memory: which process held how much of its own."""
        held = {name: [sample.pids[name], round(mb, 1)] for name, mb in sample.memory_mb.items()}
        return {"at_s": round(sample.at - self.began, 1), **held}

    def longest_gap(self, hangs: bool) -> float:
        """Longest pause of the image while camera and node ran, in seconds."""
        gaps = [
            outcome.longest_gap_s
            for outcome in self.outcomes
            if outcome.fault.picture_goes_on and outcome.fault.hangs is hangs
        ]
        return round(max(gaps, default=0.0), 3)

    def _stretch(self, first: bool) -> dict[str, Any]:
        """What the minute without faults at the beginning, or at the end, was like."""
        last = self.arrivals[-1].at if self.arrivals else self.began
        begin = self.began if first else last - self.calm_s
        end = begin + self.calm_s
        ages = [a.age_ms for a in self.arrivals if begin <= a.at <= end and a.kind == "restored"]
        samples = [sample for sample in self.samples if begin <= sample.at <= end]
        return {
            "age_ms": _percentiles(np.array(ages)),
            "restored_hz": round(len(ages) / max(self.calm_s, 1e-9), 2),
            "own_memory_mb": _medians([sample.memory_mb for sample in samples]),
            "resident_mb": _medians([sample.resident_mb for sample in samples]),
            "threads": _medians([sample.threads for sample in samples]),
            "descriptors": _medians([sample.descriptors for sample in samples]),
            "shared_memory_mb": round(
                float(np.median([s.shared_memory_mb for s in samples])) if samples else 0.0, 1
            ),
        }


def trend(samples: Sequence[Sample], names: Sequence[str]) -> float:
    """Growth of what some processes hold together, in MB a minute: one line through all samples."""
    held = [
        (sample.at, sum(sample.memory_mb[name] for name in names))
        for sample in samples
        if all(name in sample.memory_mb for name in names)
    ]
    if len(held) < 2:
        return 0.0
    at, memory = np.array(held).T
    return float(np.polyfit(at / _SECONDS_PER_MINUTE, memory, 1)[0])


def slope(samples: Sequence[Sample], name: str) -> float:
    """Growth of a process's memory in MB a minute, within the lives of its processes: one line
    through all samples, with an offset of its own for each life. Where faults end lives after a
    minute or two, most of it is what a process takes once: at the first subscriber of features, at
    the first other size."""
    lives = collections.defaultdict[int, list[tuple[float, float]]](list)
    for sample in samples:
        if name in sample.pids:
            lives[sample.pids[name]].append((sample.at, sample.memory_mb[name]))
    above = below = 0.0
    for life in lives.values():
        at, memory = np.array(life).T
        warm = at > at[0] + _WARM_AFTER_S
        if warm.sum() > 1:
            minutes = (at[warm] - at[warm].mean()) / _SECONDS_PER_MINUTE
            above += float(minutes @ (memory[warm] - memory[warm].mean()))
            below += float(minutes @ minutes)
    return above / below if below else 0.0


def describe(outcome: Outcome) -> str:
    """One line about a fault that has just passed."""
    recovery = "-" if outcome.recovery_s is None else f"{outcome.recovery_s:.1f} s"
    failures = f"  FAILED: {'; '.join(outcome.failures)}" if outcome.failures else ""
    gap = f"longest gap {outcome.longest_gap_s:.2f} s (camera's {outcome.camera_gap_s:.2f} s)"
    return f"{outcome.fault.name:<34} {gap}, restored after {recovery}{failures}"


def tables(result: Result) -> str:
    """The tables, in Markdown."""
    found = result.summary()
    first, last = found["first"], found["last"]
    slopes = found["memory_slope_mb_per_minute"]
    within = found["memory_slope_within_lives_mb_per_minute"]
    kinds, dropped = found["images_by_kind"], found["dropped"]
    lines = [
        "| | |",
        "|---|---|",
        f"| frames sent by the camera | {found['frames_sent']} |",
        f"| images on `~/image` | {found['images']} ({_counts(kinds)}) |",
        f"| images of the display that were judged | {result.displayed} |",
        f"| frames dropped | {_counts(dropped)} |",
        f"| faults survived | {found['faults_survived']} of {found['faults']} |",
        f"| wrong images, or under the wrong sign | {len(result.problems)} |",
        f"| node or display ended by itself | {len(result.crashes)} |",
        f"| tracebacks in their logs | {result.tracebacks} |",
        f"| longest gap of the image while camera and node ran | {found['longest_gap_s']:.2f} s |",
        f"| the same where the engine hung | {found['longest_gap_of_hangs_s']:.2f} s |",
        f"| gaps over the bound | {_or_dash(found['gaps_over_the_bound'])} |",
        f"| memory slope, node and engine process together"
        f" | {slopes['node and engine']:.2f} MB/min |",
        f"| memory slope, display | {slopes['display']:.2f} MB/min |",
        f"| memory slope within the lives of a process between two kills"
        f" | {', '.join(f'{name} {value:.2f}' for name, value in within.items())} MB/min |",
        f"| shared memory after the end | {found['shared_memory_after_mb']} MB |",
        "",
        "| without faults | first minute | last minute |",
        "|---|---|---|",
        *(
            f"| age of restored frames on arrival, {name} | {first['age_ms'][name]} ms"
            f" | {last['age_ms'][name]} ms |"
            for name in ("p50", "p99")
        ),
        f"| restored frames a second | {first['restored_hz']} | {last['restored_hz']} |",
        *(
            f"| {what.replace('_', ' ').replace(' mb', ', MB')}"
            f" | {_counts(first[what])} | {_counts(last[what])} |"
            for what in ("own_memory_mb", "resident_mb", "threads", "descriptors")
        ),
        f"| shared memory of Fast DDS, MB | {first['shared_memory_mb']}"
        f" | {last['shared_memory_mb']} |",
        "",
        "| fault | times | survived | longest gap | camera's pause then | gaps over the bound"
        " | restored after, longest |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        recovery = row["longest_recovery_s"]
        lines.append(
            f"| {row['fault']} | {row['times']} | {row['survived']} | {row['longest_gap_s']:.2f} s"
            f" | {row['camera_gap_s']:.2f} s"
            f" | {_or_dash(row['over_the_bound'])}"
            f" | {'-' if recovery is None else f'{recovery:.1f} s'} |"
        )
    failures = [describe(outcome) for outcome in result.outcomes if outcome.failures]
    return "\n".join([*lines, *([""] if failures else []), *failures]) + "\n"


def _by_fault(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    found = collections.defaultdict[str, list[Outcome]](list)
    for outcome in outcomes:
        found[outcome.fault.name].append(outcome)
    return dict(sorted(found.items()))


def _row(name: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    recoveries = [o.recovery_s for o in outcomes if o.recovery_s is not None]
    longest = max(outcomes, key=lambda outcome: outcome.longest_gap_s)
    return {
        "fault": name,
        "times": len(outcomes),
        "survived": sum(not outcome.failures for outcome in outcomes),
        "longest_gap_s": round(longest.longest_gap_s, 3),
        "camera_gap_s": round(longest.camera_gap_s, 3),
        "over_the_bound": _over_the_bound(outcomes),
        "longest_recovery_s": round(max(recoveries), 2) if recoveries else None,
        "failures": [failure for outcome in outcomes for failure in outcome.failures],
    }


def _over_the_bound(outcomes: Sequence[Outcome]) -> int | None:
    """Count gaps that were longer than they may be; None where there is no bound."""
    judged = [o.gap_within_bound for o in outcomes if o.gap_within_bound is not None]
    return judged.count(False) if judged else None


def _or_dash(count: int | None) -> str:
    return "-" if count is None else str(count)


def _percentiles(values: NDArray[np.float64]) -> dict[str, float | None]:
    if not len(values):
        return {"p50": None, "p99": None}
    p50, p99 = np.percentile(values, (50, 99))
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}


def _medians(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = {name: None for row in rows for name in row}
    return {
        name: round(float(np.median([row[name] for row in rows if name in row])), 1)
        for name in names
    }


def _counts(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {count:g}" for name, count in counts.items()) or "none"
