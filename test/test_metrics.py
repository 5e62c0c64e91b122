"""PSNR, and what of labels and boxes is right."""

from __future__ import annotations

import numpy as np
import pytest

from unirestore_ros.metrics import (
    PSNR_CAP_DB,
    ScoredBox,
    average_precision,
    confusion,
    mean_iou,
    psnr,
)


def test_known_errors() -> None:
    black = np.zeros((10, 10, 3), np.uint8)
    assert psnr(black + 1, black) == pytest.approx(48.1308, abs=1e-4)
    assert psnr(black + 255, black) == pytest.approx(0.0)


def test_identical_images_have_the_cap() -> None:
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    assert psnr(image, image.copy()) == PSNR_CAP_DB


def test_a_single_level_stays_under_the_cap() -> None:
    image = np.zeros((1000, 1000, 3), np.uint8)
    other = image.copy()
    other[0, 0, 0] = 1
    assert psnr(other, image) == PSNR_CAP_DB


def test_wrong_input_is_refused() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="shapes differ"):
        psnr(image, image[:2])
    with pytest.raises(ValueError, match="float64"):
        psnr(image.astype(np.float64), image)


def test_confusion_counts_truth_by_row_and_ignores_what_is_unlabelled() -> None:
    truth = np.array([[0, 0, 1], [1, 2, 3]], np.uint8)  # 3 is unlabelled
    found = np.array([[0, 1, 1], [1, 0, 2]], np.uint8)
    matrix = confusion(found, truth, 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert mean_iou(matrix) == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)


def test_classes_that_do_not_occur_are_left_out_of_the_mean() -> None:
    assert mean_iou(np.diag([5, 7, 0])) == 1.0


def box(image: int, score: float, left: float) -> ScoredBox:
    return ScoredBox(image, score, left, 0, left + 10, 10)


def test_average_precision_by_hand() -> None:
    truth = [np.array([[0.0, 0, 10, 10], [50, 0, 60, 10]]), np.array([[0.0, 0, 10, 10]])]
    assert average_precision([box(0, 0.9, 1), box(0, 0.8, 50), box(1, 0.7, 0)], truth) == 1.0
    # Right, wrong, right; one is never found: 1/3 * 1 + 1/3 * 2/3.
    found = [box(0, 0.9, 0), box(0, 0.8, 30), box(1, 0.7, 1)]
    assert average_precision(found, truth) == pytest.approx(1 / 3 + 2 / 9)
    assert average_precision(found[::-1], truth) == pytest.approx(1 / 3 + 2 / 9)


def test_a_thing_is_found_once_and_nothing_is_nought() -> None:
    truth = [np.array([[0.0, 0, 10, 10]])]
    twice = [box(0, 0.9, 0), box(0, 0.8, 0)]
    assert average_precision(twice, truth) == 1.0
    assert average_precision([box(0, 0.9, 6)], truth) == 0.0
    assert average_precision([], truth) == 0.0
    assert average_precision([box(0, 0.9, 0)], [np.zeros((0, 4))]) == 0.0
