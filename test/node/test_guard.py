"""The guard: what it refuses, of which size frames may be, and what its model file says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from unirestore_ros.node.guard import (
    FEATURES,
    MODEL_FILE,
    Guard,
    GuardModel,
    Verdict,
    all_finite,
    calibrated,
    cell_features,
)
from unirestore_ros.synthetic.drive import demo_frames

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def street() -> Image:
    """A clear frame of the synthetic drive, (360,480,3) RGB."""
    return next(iter(demo_frames(40, (480, 360)))).clean


def hazy(image: Image) -> Image:
    """A third of the light replaced by grey."""
    return np.rint(image * 0.67 + 60).astype(np.uint8)


def with_block(image: Image, x: int = 200, y: int = 200, w: int = 24, h: int = 48) -> Image:
    """The image with something that is not there: bright and dark bars."""
    wrong = image.copy()
    wrong[y : y + h, x : x + w] = (np.arange(h)[:, None, None] // 8 % 2 * 160 + 40).astype(np.uint8)
    return wrong


def test_a_faithful_restoration_passes(street: Image) -> None:
    for restored in (street, cv2.GaussianBlur(street, (0, 0), 0.6)):
        assert not Guard().check(street, restored.astype(np.uint8)).refused
    assert not Guard().check(hazy(street), street).refused


def test_an_inserted_object_is_refused_where_it_is(street: Image) -> None:
    verdict = Guard().check(street, with_block(street))
    assert verdict.refused
    row, column = np.unravel_index(verdict.map.argmax(), verdict.map.shape)
    height, width = verdict.map.shape
    assert 180 <= row / height * 360 <= 260
    assert 185 <= column / width * 480 <= 240


def test_wholly_wrong_frames_are_refused(street: Image) -> None:
    grey = np.full_like(street, 128)
    noise = np.random.default_rng(0).integers(0, 256, street.shape).astype(np.uint8)
    for wrong in (street[:, ::-1], street[::-1], grey, noise, 255 - street):
        assert Guard().check(street, np.ascontiguousarray(wrong)).refused


@pytest.mark.parametrize("size", [(64, 64), (640, 480), (1920, 1080), (1000, 251)])
def test_frames_of_any_size(street: Image, size: tuple[int, int]) -> None:
    frame = cv2.resize(street, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    verdict = Guard().check(frame, frame)
    assert not verdict.refused
    assert verdict.map.dtype == np.uint8
    assert max(verdict.map.shape) <= 125


def test_a_small_frame_is_not_enlarged(street: Image) -> None:
    """Pixels that are made up would hold no more than those that are there."""
    frame = cv2.resize(street, (96, 64), interpolation=cv2.INTER_AREA).astype(np.uint8)
    assert Guard().check(frame, frame).map.shape == (16, 24)


def test_half_a_score_is_refused() -> None:
    cells = np.zeros((1, 1), np.uint8)
    assert Verdict(0.5, cells).refused
    assert not Verdict(0.499, cells).refused


def test_an_error_in_a_big_frame_is_refused(street: Image) -> None:
    big = cv2.resize(street, (1440, 1080), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    wrong = cv2.resize(with_block(street), (1440, 1080)).astype(np.uint8)
    assert Guard().check(big, wrong).refused


def test_it_is_deterministic(street: Image) -> None:
    guard, wrong = Guard(), with_block(street)
    first = guard.check(street, wrong)
    guard.check(wrong, street)
    again = guard.check(street, wrong)
    assert first.score == again.score
    assert np.array_equal(first.map, again.map)


CHECK_MANY = """
import time, cv2, numpy as np
from unirestore_ros.node.guard import Guard
cv2.setNumThreads(1)
frame = np.zeros((360, 480, 3), np.uint8)
guard = Guard()
guard.check(frame, frame)
here, all_threads = time.thread_time(), time.process_time()
for _ in range(300):  # the threads of a BLAS spin for a moment after their start too
    guard.check(frame, frame)
print(time.thread_time() - here, time.process_time() - all_threads)
"""


def test_no_other_thread_takes_processor_time_from_the_engine() -> None:
    run = subprocess.run(
        [sys.executable, "-c", CHECK_MANY], check=True, capture_output=True, text=True
    )
    here, all_threads = map(float, run.stdout.split())
    assert all_threads < 1.3 * here


def test_constant_frames_have_a_verdict() -> None:
    black = np.zeros((360, 480, 3), np.uint8)
    assert np.isfinite(cell_features(black, black)).all()
    assert np.isfinite(Guard().check(black, black).score)


def test_a_model_without_a_number_refuses(street: Image) -> None:
    model = GuardModel.read(MODEL_FILE)
    model.centre[0] = np.nan
    verdict = Guard(model).check(street, street)
    assert verdict.refused
    assert verdict.score == 1.0


@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_cells_are_scored_by_the_formula_of_the_model(spread: float) -> None:
    """In float64, without any of the shortcuts that make it fast."""
    model = calibrated()
    cells = (4 + spread * np.random.default_rng(0).random((45, 60, FEATURES))).astype(np.float32)
    flat = cells.reshape(-1, FEATURES).astype(np.float64)
    frame = np.concatenate([flat.mean(0), flat.std(0)])
    inputs = np.concatenate([flat, np.broadcast_to(frame, (len(flat), len(frame)))], axis=1)
    inputs = (inputs - model.centre) / model.scale
    hidden = np.maximum(inputs @ model.hidden + model.hidden_bias, 0)
    logits = hidden @ model.output + inputs @ model.direct + model.bias
    np.testing.assert_allclose(model.logits(cells).reshape(-1), logits, rtol=1e-3, atol=1e-3)


def test_the_model_file_reads_back(tmp_path: Path) -> None:
    model = GuardModel.read(MODEL_FILE)
    model.write(tmp_path / "again.json")
    again = GuardModel.read(tmp_path / "again.json")
    cells = np.random.default_rng(0).random((3, 4, FEATURES), np.float32)
    assert np.allclose(model.logits(cells), again.logits(cells), atol=1e-3)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_features_that_are_no_numbers(wrong: float) -> None:
    features = np.ones((4, 5, 3), np.float32)
    assert all_finite(features)
    features[2, 3, 1] = wrong
    assert not all_finite(features)
