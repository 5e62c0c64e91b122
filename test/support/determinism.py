"""Checks that a frame gives the same bytes, wherever and however often it is restored."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unirestore_ros.engine import EngineOutput, open_engine
from unirestore_ros.node.engine_process import EngineProcess
from unirestore_ros.synthetic.drive import demo_frames

LIMIT_S = 300.0
Results = list[NDArray[Any]]


def check_deterministic(
    bundle: str | Path, backend: str, size: tuple[int, int], tasks: tuple[str, ...]
) -> None:
    """Compare the engine in this process, run again behind another frame, with two engine
    processes, each of which restores the frame twice."""
    outputs = [EngineOutput("image", "perception")]
    outputs += [EngineOutput("features", task) for task in tasks]
    frame, another = (each.degraded for each in list(demo_frames(6, size))[::5])
    with open_engine(bundle, backend, frame_size=size) as engine:
        assert engine.backend == backend
        expected = [array.copy() for _, array in engine.run(frame, outputs)]
        list(engine.run(another, outputs))
        _check_same([array.copy() for _, array in engine.run(frame, outputs)], expected)
    for _ in range(2):
        with contextlib.closing(EngineProcess()) as process:
            process.open(LIMIT_S, bundle=str(bundle), backend=backend, device_id=0, threads=0)
            process.pin(*size, LIMIT_S)
            for _ in range(2):
                results = process.run(frame, outputs, LIMIT_S)
                _check_same([array.copy() for _, array in results], expected)


def _check_same(one: Results, other: Results) -> None:
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)
