"""A bundle's engine alone: all outputs of one frame, beside the published way of doing the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from unirestore_ros.bench.published import PublishedWay
from unirestore_ros.bench.rows import Row, Work, timed_in_turn
from unirestore_ros.drive.programme import demo_frames
from unirestore_ros.engine import Engine, open_engine
from unirestore_ros.model.weights import load_weights
from unirestore_ros.tasks import short_name

WARM_UP = 3
PERCEPTION = "perception"
Works = dict[Work, Callable[[], object]]


def measure_engine(
    bundle: Path,
    weights: Path,
    outputs: tuple[str, ...],
    runs: int,
    size: tuple[int, int] | None = None,
) -> list[Row]:
    """Every kind of work runs once in each of ``runs`` turns. ``size``: None, or the bundle's."""
    engine = open_engine(bundle)
    for task in outputs:
        if task not in engine.tasks:
            raise ValueError(f"{bundle} has no task {task!r}: choose from {engine.tasks}")
    if size is not None and size != engine.input_size:
        width, height = engine.input_size
        raise ValueError(f"{bundle} takes {width}x{height}, not {size[0]}x{size[1]}: build another")
    frame = next(iter(demo_frames(5, engine.input_size))).degraded
    published = PublishedWay(load_weights(weights))
    images = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
    tasks = [short_name(task) for task in outputs]
    stride = engine.bundle.manifest.stride
    work = Work(f"published/{len(outputs)}-outputs", "fp32", stride, "torch")
    works: Works = {work: partial(published, images, tasks)}
    return timed_in_turn(works | _engine_works(engine, frame, outputs), WARM_UP, runs)


def _engine_works(engine: Engine, frame: NDArray[np.uint8], outputs: tuple[str, ...]) -> Works:
    manifest = engine.bundle.manifest
    machine = [task for task in outputs if task != PERCEPTION]

    def all_outputs() -> None:
        engine.run_trunk(frame)
        if PERCEPTION in outputs:
            engine.decode(PERCEPTION)
        for task in machine:
            engine.adapt(task)

    def part(name: str) -> Work:
        return Work(f"part/{name}", manifest.precision[name], manifest.stride, engine.backend)

    precisions = sorted(set(manifest.precision.values()))
    whole = Work(
        f"ours/{len(outputs)}-outputs", "+".join(precisions), manifest.stride, engine.backend
    )
    return {
        whole: all_outputs,
        part("trunk"): partial(engine.run_trunk, frame),
        part("decoder"): partial(engine.decode, PERCEPTION),
        part("adapter"): partial(engine.adapt, machine[0] if machine else outputs[0]),
    }
