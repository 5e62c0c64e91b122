"""The bench of camera sizes: what it times, and what it makes of times."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unirestore_ros.engine import open_engine
from unirestore_ros.engine.detail import DetailKeeper
from unirestore_ros.evaluate import camera_bench
from unirestore_ros.evaluate.timing import Spent

SHIPPED = Path(__file__).parents[2] / "engines" / "tiny"


def test_medians_of_all_and_of_reducing_and_fusing() -> None:
    spent = [(Spent(clock, 2 * clock), Spent(clock / 10, 0)) for clock in (100.0, 120.0, 110.0)]
    medians = camera_bench._medians(spent)
    assert (medians["median_ms"], medians["median_cpu_ms"]) == (110, 220)
    assert medians["reduce_and_fuse_ms"] == 11 and 119 < medians["p99_ms"] <= 120


def test_every_output_of_a_frame_is_computed() -> None:
    frame = np.zeros((96, 128, 3), np.uint8)
    with open_engine(SHIPPED, "onnxruntime", frame_size=(128, 96)) as engine:
        camera_bench._every_output(engine, frame)
        assert engine.sizes.frame == (128, 96)
        camera_bench._reduce_and_fuse(DetailKeeper(engine.sizes), frame)


def test_a_node_that_restores_nothing_has_no_times() -> None:
    from unirestore_ros.evaluate.node_bench import _first_s, milliseconds

    assert milliseconds("nan") is None  # which JSON does not have
    assert milliseconds("9.5") == 9.5
    assert _first_s(np.zeros((0, 2), np.int64), 0) is None
    assert _first_s(np.array([[0, 3_000_000_000]]), 1_000_000_000) == 2.0
