"""A bundle's engine alone: all outputs of one frame, beside the published way of doing the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from unirestore_ros.engine import Engine, open_engine
from unirestore_ros.engine.backends import runnable_here
from unirestore_ros.engine.bundle import read_bundle
from unirestore_ros.evaluate.network_bench import PERCEPTION, PublishedWay, distances
from unirestore_ros.evaluate.timing import Row, Work, timed_in_turn
from unirestore_ros.model.weights import load_weights
from unirestore_ros.synthetic.drive import demo_frames
from unirestore_ros.tasks import short_name

WARM_UP = 3
Frame = NDArray[np.uint8]
Works = dict[Work, Callable[[], object]]


def measure_engine(
    bundle: Path,
    weights: Path,
    outputs: tuple[str, ...],
    runs: int,
    size: tuple[int, int] | None = None,
) -> list[Row]:
    """Time the published way and ours on each backend that runs here, once in each of ``runs``
    turns. ``size``: None, or the bundle's."""
    engines = [open_engine(bundle, name) for name in runnable_here(read_bundle(bundle))]
    engine = engines[0]
    for task in outputs:
        if task not in engine.tasks:
            raise ValueError(f"{bundle} has no task {task!r}: choose from {engine.tasks}")
    size = size or engine.bundle.manifest.working_size
    if problem := engine.refusal(*size):
        raise ValueError(problem)
    frame = next(iter(demo_frames(5, size))).degraded
    published = PublishedWay(load_weights(weights))
    images = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
    tasks = [short_name(task) for task in outputs]
    stride = engine.bundle.manifest.stride
    work = Work(f"published/{len(outputs)}-outputs", "fp32", stride, "torch")
    works: Works = {work: partial(published, images, tasks)}
    for each in engines:
        works |= _engine_works(each, frame, outputs)
    rows = timed_in_turn(works, WARM_UP, runs)
    return [*rows[:1], *_with_errors(rows[1:], engines, frame, outputs)]


def _with_errors(
    rows: list[Row], engines: Sequence[Engine], frame: Frame, outputs: tuple[str, ...]
) -> list[Row]:
    """Add to the rows of a backend in half precision how far its results are from those of one in
    float32, where there is one."""
    made = {engine.backend: _results(engine, frame, outputs) for engine in engines}
    exact = [e.backend for e in engines if set(e.precision.values()) == {"fp32"}]
    for row in rows:
        if row["what"].startswith("ours/") and row["precision"] != "fp32" and exact:
            row["psnr_to_fp32_db"] = distances(made[row["backend"]], made[exact[0]])
    return rows


def _results(engine: Engine, frame: Frame, outputs: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Copy the image, and the features of the first machine task."""
    engine.run_trunk(frame)
    machine = [task for task in outputs if task != PERCEPTION]
    found = {}
    if PERCEPTION in outputs:
        found["image"] = torch.tensor(engine.decode(PERCEPTION))
    if machine:
        found[f"features at stride {engine.bundle.manifest.stride}"] = torch.tensor(
            engine.adapt(machine[0])
        )
    return found


def _engine_works(engine: Engine, frame: Frame, outputs: tuple[str, ...]) -> Works:
    manifest = engine.bundle.manifest
    machine = [task for task in outputs if task != PERCEPTION]

    def all_outputs() -> None:
        engine.run_trunk(frame)
        if PERCEPTION in outputs:
            engine.decode(PERCEPTION)
        for task in machine:
            engine.adapt(task)

    def part(name: str) -> Work:
        return Work(f"part/{name}", engine.precision[name], manifest.stride, engine.backend)

    precisions = sorted(set(engine.precision.values()))
    whole = Work(
        f"ours/{len(outputs)}-outputs", "+".join(precisions), manifest.stride, engine.backend
    )
    return {
        whole: all_outputs,
        part("trunk"): partial(engine.run_trunk, frame),
        part("decoder"): partial(engine.decode, PERCEPTION),
        part("adapter"): partial(engine.adapt, machine[0] if machine else outputs[0]),
    }
