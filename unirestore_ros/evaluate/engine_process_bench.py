"""What it costs to have the engine in a process of its own: the same frames through both ways.

    python -m unirestore_ros.evaluate.engine_process_bench --out engine_process.json

For each backend that runs here and each size of frames, one engine in this process and one in an
engine process take turns, frame by frame, so that a change of load on the machine meets both. Each
computes the image and the features of every machine task. The overhead is the median of the
differences of neighbours. Beside it: what the guard takes in the node, and its share of the frame.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import unirestore_ros
from unirestore_ros.engine import BundleError, EngineOutput, open_engine
from unirestore_ros.engine.backends import runnable_here
from unirestore_ros.engine.bundle import find_bundle, read_bundle
from unirestore_ros.evaluate.bench_command import frame_size
from unirestore_ros.files import written_beside
from unirestore_ros.node.engine_process import EngineProcess
from unirestore_ros.node.guard import Guard
from unirestore_ros.synthetic.drive import demo_frames
from unirestore_ros.tasks import DRIVERS_TASK

SIZES = ((480, 360), (1920, 1080))
RUNS, WARM_UP = 40, 5
_LIMIT_S = 120.0
Results = Iterable[tuple[EngineOutput, NDArray[Any]]]


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    try:
        rows = [
            measure(options.bundle, backend, size, options.runs)
            for backend in _backends(options.bundle)
            for size in options.size or SIZES
        ]
    except (BundleError, ValueError) as error:
        sys.stderr.write(f"engine_process_bench: {error}\n")
        return 1
    with written_beside(options.out) as beside:
        beside.write_text(json.dumps({"meta": _meta(), "rows": rows}, indent=1) + "\n")
    for row in rows:
        sys.stdout.write(f"{json.dumps(row)}\n")
    return 0


def measure(bundle: str, backend: str, size: tuple[int, int], runs: int) -> dict[str, Any]:
    """Measure one backend with frames of (width, height) ``size``; times are milliseconds."""
    frame = next(iter(demo_frames(5, size))).degraded
    with (
        open_engine(bundle, backend, frame_size=size) as engine,
        _process(bundle, backend, size) as process,
    ):
        machine = [task for task in engine.tasks if task != DRIVERS_TASK]
        outputs = [EngineOutput("image", DRIVERS_TASK)]
        outputs += [EngineOutput("features", task) for task in machine]
        pairs = []
        for _ in range(WARM_UP + runs):
            inside = _spent_ms(lambda: engine.run(frame, outputs))
            pairs.append((inside, _spent_ms(lambda: process.run(frame, outputs, _LIMIT_S))))
        same = _agree(engine.run(frame, outputs), process.run(frame, outputs, _LIMIT_S))
        guard_ms = _guard_ms(frame, next(image for _, image in engine.run(frame, outputs)), runs)
    times = np.array(pairs[WARM_UP:])
    return {
        "backend": backend,
        "size": "x".join(map(str, size)),
        "in_process_ms": round(float(np.median(times[:, 0])), 2),
        "engine_process_ms": round(float(np.median(times[:, 1])), 2),
        "overhead_ms": round(float(np.median(times[:, 1] - times[:, 0])), 2),
        "guard_ms": round(guard_ms, 2),
        "guard_share": round(guard_ms / float(np.median(times[:, 1])), 3),
        "same_bytes": same,
        "runs": runs,
    }


@contextlib.contextmanager
def _process(bundle: str, backend: str, size: tuple[int, int]) -> Iterator[EngineProcess]:
    """An engine process that is ready for frames of that size."""
    with contextlib.closing(EngineProcess()) as process:
        process.open(_LIMIT_S, bundle=bundle, backend=backend, device_id=0, threads=0)
        process.pin(*size, _LIMIT_S)
        yield process


def _spent_ms(run: Any) -> float:
    """Run a frame through, and tell how long all of its outputs took."""
    began = time.perf_counter()
    for _ in run():
        pass
    return (time.perf_counter() - began) * 1e3


def _guard_ms(frame: NDArray[np.uint8], restored: NDArray[np.uint8], runs: int) -> float:
    """Median time that the guard takes for a frame, both (H,W,3) uint8 RGB."""
    guard, times = Guard(), []
    for _ in range(WARM_UP + runs):
        began = time.perf_counter()
        guard.check(frame, restored)
        times.append(time.perf_counter() - began)
    return float(np.median(times[WARM_UP:])) * 1e3


def _agree(one: Results, other: Results) -> bool:
    """Whether both ways give the same bytes."""
    return all(
        np.array_equal(mine, theirs) for (_, mine), (_, theirs) in zip(one, other, strict=True)
    )


def _backends(bundle: str) -> list[str]:
    return runnable_here(read_bundle(find_bundle(bundle)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("engine_process_bench", description=__doc__)
    parser.add_argument("--bundle", default="tiny", help="a bundle's folder or name (tiny)")
    parser.add_argument(
        "--size", type=frame_size, action="append", metavar="WxH", help="(480x360 and 1920x1080)"
    )
    parser.add_argument("--runs", type=int, default=RUNS, help="pairs of frames (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="the JSON to write")
    return parser


def _meta() -> dict[str, Any]:
    return {
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "version": unirestore_ros.__version__,
        "load_before": os.getloadavg()[0],
    }


if __name__ == "__main__":
    sys.exit(main())
