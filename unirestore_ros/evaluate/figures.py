"""What the measures over DDS have in common: rates, percentiles, the machine, and the end."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import unirestore_ros
from unirestore_ros.evaluate.node_processes import Processes
from unirestore_ros.files import written_beside
from unirestore_ros.msgs.rates import mean_rate
from unirestore_ros.recordings import RecordingError

# The first seconds are those of discovery and of memory that is taken for the first time.
SETTLE_S = 5.0


def settled(seen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of rows (stamp, arrival, ...) in ns, those after the first seconds."""
    return seen[seen[:, 1] > seen[0, 1] + SETTLE_S * 1e9] if len(seen) else seen


def latency(seen: NDArray[np.int64]) -> NDArray[np.float64]:
    """From stamp to arrival, in ms, after the first seconds."""
    kept = settled(seen)
    return np.asarray((kept[:, 1] - kept[:, 0]) * 1e-6, np.float64)


def rate(seen: NDArray[np.int64]) -> float:
    """Arrivals a second, after the first seconds."""
    return round(mean_rate(settled(seen)[:, 1]) or 0.0, 2)


def percentiles(values: NDArray[np.float64]) -> dict[str, float]:
    median, p99 = np.percentile(values, (50, 99))
    return {"median": round(float(median), 2), "p99": round(float(p99), 2)}


Samples = Sequence[tuple[float, Mapping[str, float]]]
"""Seconds since the beginning, and memory by kind."""


def growth(samples: Samples, seconds: float) -> dict[str, float]:
    """Of each kind of memory, between 1/5 of the time and its end: minutes 1 and 5 of five."""

    def mean(kind: str, begin: float, end: float) -> float:
        chosen = [kinds[kind] for at, kinds in samples if begin <= at / seconds <= end]
        return float(np.mean(chosen))

    return {
        kind: round(mean(kind, 0.97, 1.0) - mean(kind, 0.20, 0.23), 2) for kind in samples[-1][1]
    }


def measure_parser(about: str, measures: Iterable[str]) -> argparse.ArgumentParser:
    """The options that every measure takes; ``about`` is a module's docstring."""
    description, _, details = about.partition("\n")
    parser = argparse.ArgumentParser(
        description=description,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=tuple(measures))
    parser.add_argument("--bundle", default="tiny", help="a bundle's folder or name (tiny)")
    parser.add_argument("--size", help="WxH of the camera's frames")
    parser.add_argument("--seconds", type=float, help="how long to measure")
    parser.add_argument("--out", type=Path, required=True, help="the JSON to write")
    return parser


def run_measure(what: str, measure: Callable[[Processes], dict[str, Any]], out: Path) -> int:
    """Measure, write and print; 1, with its last words, where a process ended by itself."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as group:
        try:
            row = measure(group)
        except RecordingError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    result = {"meta": {**_meta(), "load_before": load}, "rows": [{"what": what, **row}]}
    with written_beside(out) as beside:
        beside.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(json.dumps(row, indent=1) + "\n")
    return 0


def _meta() -> dict[str, Any]:
    return {
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "ros": os.environ.get("ROS_DISTRO", "from PyPI"),
        "version": unirestore_ros.__version__,
    }
