"""The classical baseline: each method corrects what it is for, and the rule picks it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from unirestore_ros.evaluate import classical
from unirestore_ros.evaluate.metrics import PSNR_CAP_DB, psnr
from unirestore_ros.synthetic.drive import Drive
from unirestore_ros.synthetic.driving import degrade
from unirestore_ros.synthetic.frame import Frame


@pytest.fixture(scope="module")
def frame() -> Frame:
    return Drive(8, (240, 180)).frame(2.0)


def degraded(frame: Frame, name: str, severity: int) -> np.ndarray:
    return degrade(frame.image, name, severity, np.random.default_rng(0), frame.depth)


@pytest.mark.parametrize(
    ("method", "name", "severity"),
    [("non_local_means", "noise", 4), ("dehaze", "fog", 3), ("clahe", "low_light", 2)],
)
def test_method_mends_its_own(frame: Frame, method: str, name: str, severity: int) -> None:
    broken = degraded(frame, name, severity)
    corrected = classical.METHODS[method](broken)
    assert corrected.shape == broken.shape
    assert corrected.dtype == np.uint8
    assert psnr(corrected, frame.image) > psnr(broken, frame.image) + 0.5
    assert classical.choose(broken) == method


def test_clear_frames_are_left_alone(frame: Frame) -> None:
    assert classical.choose(frame.image) == "untouched"
    assert np.array_equal(classical.untouched(frame.image), frame.image)
    assert classical.untouched(frame.image) is not frame.image


def test_best_of_is_the_best(frame: Frame) -> None:
    broken = degraded(frame, "noise", 4)
    name, quality = classical.best_of(broken, frame.image)
    assert name == "non_local_means"
    for method in classical.METHODS.values():
        assert psnr(method(broken), frame.image) <= quality
    assert classical.best_of(frame.image, frame.image) == ("untouched", PSNR_CAP_DB)


@pytest.mark.parametrize("sigma", [5.0, 12.0, 25.0])
def test_noise_estimate(sigma: float) -> None:
    rng = np.random.default_rng(1)
    smooth = cv2.resize(rng.uniform(90, 160, (6, 8, 3)), (320, 240), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(smooth + rng.normal(0, sigma, smooth.shape), 0, 255).astype(np.uint8)
    assert classical.noise_sigma(noisy) == pytest.approx(sigma, rel=0.12)


def test_haze_grows_with_fog(frame: Frame) -> None:
    values = [classical.haze(frame.image)]
    values += [classical.haze(degraded(frame, "fog", severity)) for severity in (1, 3, 5)]
    assert values == sorted(values)


def test_dehazing_recovers_a_known_veil() -> None:
    """A scene with dark spots everywhere under a constant veil: the veil is found."""
    rng = np.random.default_rng(3)
    scene = rng.uniform(0, 0.9, (120, 160, 3))
    scene[:12] = 1.0  # what the airlight is read from
    veiled = (255 * (0.6 * scene + 0.4)).astype(np.uint8)
    corrected = classical.dehaze(veiled)
    clean = (255 * scene).astype(np.uint8)
    assert psnr(corrected[30:], clean[30:]) > psnr(veiled[30:], clean[30:]) + 5
