"""ImageNet-C corruptions: seeded by file, name and severity, and by nothing else."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from unirestore_ros.evaluate.metrics import psnr
from unirestore_ros.synthetic.corruptions import (
    COMMON,
    FAMILIES,
    VALIDATION,
    corrupt,
    fast_glass_blur,
    seed_of,
)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (12, 16, 3)).astype(np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def test_names() -> None:
    assert len(COMMON) == 15
    assert len(VALIDATION) == 4
    families = [name for names in FAMILIES.values() for name in names]
    assert sorted(families) == sorted(COMMON)


def test_seed_is_the_same_everywhere() -> None:
    assert seed_of("a.jpg", "fog", 3) == 1939588184
    assert seed_of("a.jpg", "fog", 3) != seed_of("a.jpg", "fog", 4)
    assert seed_of("a.jpg", "fog", 3) != seed_of("b.jpg", "fog", 3)


@pytest.mark.parametrize("name", COMMON + VALIDATION)
def test_pixels_depend_on_the_key_alone(image: np.ndarray, name: str) -> None:
    pytest.importorskip("imagecorruptions", reason="needs imagecorruptions-imaug")
    np.random.seed(7)
    one = corrupt(image, name, 3, "street.jpg")
    after = np.random.random()
    np.random.seed(8)
    same = corrupt(image, name, 3, "street.jpg")
    assert one.shape == image.shape
    assert one.dtype == np.uint8
    assert np.array_equal(one, same)
    np.random.seed(7)
    assert np.random.random() == after  # the global generator is as it was


def test_another_file_has_another_noise(image: np.ndarray) -> None:
    pytest.importorskip("imagecorruptions", reason="needs imagecorruptions-imaug")
    for name in ("gaussian_noise", "impulse_noise", "glass_blur", "snow"):
        assert not np.array_equal(corrupt(image, name, 3, "a"), corrupt(image, name, 3, "b"))


def test_severity_costs_quality(image: np.ndarray) -> None:
    pytest.importorskip("imagecorruptions", reason="needs imagecorruptions-imaug")
    for name in ("gaussian_noise", "defocus_blur", "contrast"):
        quality = [psnr(corrupt(image, name, severity, "a"), image) for severity in (1, 3, 5)]
        assert quality == sorted(quality, reverse=True)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_fast_glass_blur_does_as_much_harm(image: np.ndarray, severity: int) -> None:
    pytest.importorskip("imagecorruptions", reason="needs imagecorruptions-imaug")
    library = psnr(corrupt(image, "glass_blur", severity, "a"), image)
    fast = psnr(fast_glass_blur(image, severity, np.random.default_rng(0)), image)
    assert fast == pytest.approx(library, abs=1.5)


def test_without_the_library_the_error_says_what_to_install(
    image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(ImportError, match="pip install"):
        corrupt(image, "fog", 3, "a")


def test_bad_input_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="hail"):
        corrupt(image, "hail", 3, "a")
    with pytest.raises(ValueError, match="severity 0"):
        corrupt(image, "fog", 0, "a")
    with pytest.raises(ValueError, match="32x32"):
        corrupt(image[:20], "fog", 3, "a")
    with pytest.raises(ValueError, match="uint8"):
        corrupt(image[..., 0], "fog", 3, "a")
