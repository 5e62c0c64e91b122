"""PSNR, and what of labels and boxes is right."""

from __future__ import annotations

import numpy as np
import pytest

from unirestore_ros.evaluate.metrics import (
    PSNR_CAP_DB,
    average_precision,
    confusion,
    match_boxes,
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


def box(left: float) -> list[float]:
    return [left, 0, left + 10, 10]


TWO, NONE = np.array([box(0), box(50)]), np.zeros((0, 4))


def test_boxes_are_right_once_and_only_by_half() -> None:
    found = np.array([box(1), box(0), box(57), box(50)])
    assert match_boxes(found, TWO).tolist() == [True, False, False, True]
    assert match_boxes(found, NONE).tolist() == [False] * 4
    assert match_boxes(NONE, TWO).tolist() == []


def test_average_precision_by_hand() -> None:
    scores, right = np.array([0.9, 0.8, 0.7]), np.array([True, True, True])
    assert average_precision(scores, right, 3) == 1.0
    # Right, wrong, right; one is never found: 1/3 * 1 + 1/3 * 2/3.
    mixed = np.array([True, False, True])
    assert average_precision(scores, mixed, 3) == pytest.approx(1 / 3 + 2 / 9)
    assert average_precision(scores[::-1], mixed[::-1], 3) == pytest.approx(1 / 3 + 2 / 9)
    assert average_precision(np.zeros(0), np.zeros(0, bool), 3) == 0.0
    assert average_precision(scores, np.zeros(3, bool), 0) == 0.0


def test_a_weight_of_two_is_the_same_image_twice() -> None:
    scores, hits, weights = np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), [2, 1, 1]
    twice = average_precision(np.repeat(scores, weights), np.repeat(hits, weights), 5)
    assert average_precision(scores, hits, 5, np.array(weights)) == pytest.approx(twice)
