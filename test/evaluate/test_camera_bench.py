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


def test_the_first_frame_after_a_change_is_one_that_was_taken_after_it() -> None:
    seen = np.array([[90, 200], [100, 300], [110, 400]]) * 1_000_000
    assert camera_bench._first_ms(seen, 100_000_000) == 200
    assert camera_bench._first_ms(seen, 120_000_000) is None


def test_the_bench_cameras_patches_are_as_large_a_part_of_every_image() -> None:
    """Smaller ones are noise at the working size, which the guard does not let be taken out."""
    from unirestore_ros.evaluate.node_roles import _noise_image

    for width, height, side in ((480, 360, 8), (3840, 2160, 64)):
        message = _noise_image(width, height, 0)
        pixels = np.frombuffer(message.data, np.uint8).reshape(height, width, 3)
        assert (pixels[:side, :side] == pixels[0, 0]).all()
        assert (pixels[0, side] != pixels[0, 0]).any()
    message = _noise_image(64, 48, 0, "bgra8")
    assert len(message.data) == 64 * 48 * 4 == message.step * message.height


def test_a_node_that_restores_nothing_has_no_times() -> None:
    from unirestore_ros.evaluate.node_bench import _first_s, milliseconds

    assert milliseconds("nan") is None  # which JSON does not have
    assert milliseconds("9.5") == 9.5
    assert _first_s(np.zeros((0, 2), np.int64), 0) is None
    assert _first_s(np.array([[0, 3_000_000_000]]), 1_000_000_000) == 2.0
