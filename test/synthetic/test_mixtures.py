"""Mixtures of driving degradations: seeded, ordered, worse with severity and than their parts."""

from __future__ import annotations

import numpy as np
import pytest

from unirestore_ros.evaluate.metrics import psnr
from unirestore_ros.synthetic.drive import Drive
from unirestore_ros.synthetic.driving import DEGRADATIONS, MIXTURES, STEADY, degrade, mix, mix_frame
from unirestore_ros.synthetic.frame import Frame


@pytest.fixture(scope="module")
def frame() -> Frame:
    return Drive(5, (240, 180)).frame(3.0)


def mixed(frame: Frame, name: str, severity: int = 3, number: int = 0) -> np.ndarray:
    return mix_frame(frame.image, name, severity, "drive", number, frame.depth)


@pytest.mark.parametrize("name", MIXTURES)
def test_severity_costs_quality(frame: Frame, name: str) -> None:
    quality = [psnr(mixed(frame, name, severity), frame.image) for severity in (1, 2, 3, 4, 5)]
    assert quality == sorted(quality, reverse=True)
    assert quality[0] - quality[4] > 2


@pytest.mark.parametrize("name", MIXTURES)
def test_each_part_leaves_its_mark_and_the_seed_decides(frame: Frame, name: str) -> None:
    once, again = mixed(frame, name), mixed(frame, name)
    assert once.dtype == np.uint8 and once.shape == frame.image.shape
    assert np.array_equal(once, again)
    for part in MIXTURES[name]:
        alone = degrade(frame.image, part, 3, np.random.default_rng(1), frame.depth)
        assert psnr(once, alone) < 40, part


@pytest.mark.parametrize("name", MIXTURES)
def test_in_a_video_only_the_steady_parts_stand_still(frame: Frame, name: str) -> None:
    assert set(MIXTURES[name]) <= set(DEGRADATIONS)
    stands = np.array_equal(mixed(frame, name, number=0), mixed(frame, name, number=1))
    assert stands == all(part in STEADY for part in MIXTURES[name])


def test_light_meets_the_parts_in_order() -> None:
    """Fog before the exposure: a black scene in fog at night is as dark as the exposure says."""
    black = np.zeros((64, 96, 3), np.uint8)
    far = np.full((64, 96), 2000.0, np.float32)

    def rng_of(part: str) -> np.random.Generator:
        return np.random.default_rng(len(part))

    fog = degrade(black, "fog", 3, rng_of("fog"), far)
    night = mix(black, "fog_at_night", 3, rng_of, far)
    assert fog.mean() > 150
    assert night.mean() < 0.5 * fog.mean()


def test_bad_input_is_refused(frame: Frame) -> None:
    with pytest.raises(ValueError, match="hail_at_night"):
        mixed(frame, "hail_at_night")
    with pytest.raises(ValueError, match="severity 6"):
        mixed(frame, "fog_at_night", 6)
