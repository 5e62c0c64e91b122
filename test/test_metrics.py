"""PSNR, which the demo and the evaluation share."""

from __future__ import annotations

import numpy as np
import pytest

from unirestore_ros.metrics import PSNR_CAP_DB, psnr


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
