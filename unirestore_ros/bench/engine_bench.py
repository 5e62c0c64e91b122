"""The engine alone: all outputs of one frame, beside the published way of doing the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unirestore_ros.drive.programme import demo_frames
from unirestore_ros.engine import Engine, open_engine
from unirestore_ros.model import UniRestore
from unirestore_ros.model.weights import load_weights
from unirestore_ros.tasks import short_name

WARM_UP = 3
Work = Callable[[], object]


def measure_engine(
    bundle: Path, weights: Path, outputs: tuple[str, ...], runs: int
) -> list[dict[str, Any]]:
    """Median and 99th percentile; every kind of work runs once in each of ``runs`` turns."""
    engine = open_engine(bundle)
    for task in outputs:
        if task not in engine.tasks:
            raise ValueError(f"{bundle} has no task {task!r}: choose from {engine.tasks}")
    frame = next(iter(demo_frames(5, engine.input_size))).degraded
    works = _engine_works(engine, frame, outputs)
    works[f"published/{len(outputs)}-outputs"] = _published(load_weights(weights), frame, outputs)
    times = _timed(works, runs)
    stride = engine.bundle.manifest.stride
    return [
        _row(what, listed, "torch" if what.startswith("published") else engine.backend, stride)
        for what, listed in times.items()
    ]


def _engine_works(engine: Engine, frame: np.ndarray, outputs: tuple[str, ...]) -> dict[str, Work]:
    machine = [task for task in outputs if task != "perception"]

    def all_outputs() -> None:
        engine.run_trunk(frame)
        if "perception" in outputs:
            engine.decode("perception")
        for task in machine:
            engine.adapt(task)

    return {
        f"ours/{len(outputs)}-outputs": all_outputs,
        "part/trunk": lambda: engine.run_trunk(frame),
        "part/decoder": lambda: engine.decode("perception"),
        "part/adapter": lambda: engine.adapt(machine[0] if machine else outputs[0]),
    }


def _published(network: UniRestore, frame: np.ndarray, outputs: tuple[str, ...]) -> Work:
    """One full eager forward for each output, in fp32, as the published implementation works."""
    torch.set_float32_matmul_precision("medium")
    images = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255

    @torch.inference_mode()
    def work() -> None:
        for task in outputs:
            network.restore(images, short_name(task))

    return work


def _timed(works: Mapping[str, Work], runs: int) -> dict[str, list[float]]:
    """Milliseconds of each run, by kind of work, measured in turn."""
    times: dict[str, list[float]] = {what: [] for what in works}
    for turn in range(WARM_UP + runs):
        for what, work in works.items():
            started = time.perf_counter()
            work()
            if turn >= WARM_UP:
                times[what].append((time.perf_counter() - started) * 1e3)
    return times


def _row(what: str, times: list[float], backend: str, stride: int) -> dict[str, Any]:
    return {
        "what": what,
        "backend": backend,
        "precision": "fp32",
        "stride": stride,
        "median_ms": round(float(np.median(times)), 2),
        "p99_ms": round(float(np.percentile(times, 99)), 2),
        "runs": len(times),
    }
