"""Fitting to a bundle's size: aspect kept, centre crop."""

from __future__ import annotations

import numpy as np
import pytest

from unirestore_ros.recordings.scaling import description, fit, scaled_size

TARGET = (480, 360)


@pytest.mark.parametrize(
    ("source", "scaled"),
    [
        ((480, 360), (480, 360)),
        ((960, 540), (640, 360)),
        ((1920, 1080), (640, 360)),
        ((360, 480), (480, 640)),
        ((240, 180), (480, 360)),
        ((481, 360), (481, 360)),
    ],
)
def test_scaled_picture_covers_the_target(source: tuple[int, int], scaled: tuple[int, int]) -> None:
    assert scaled_size(source, TARGET) == scaled
    image = np.zeros((source[1], source[0], 3), np.uint8)
    fitted = fit(image, TARGET)
    assert fitted.shape == (360, 480, 3)
    assert fitted.flags.c_contiguous


def test_picture_of_the_right_size_is_untouched() -> None:
    image = np.random.default_rng(0).integers(0, 256, (360, 480, 3), dtype=np.uint8)
    assert fit(image, TARGET) is image
    assert "nothing is scaled" in description((480, 360), TARGET)


def test_crop_is_at_the_centre() -> None:
    """A picture twice as wide as high: its outer quarters fall away."""
    image = np.zeros((360, 720, 3), np.uint8)
    image[:, :120] = image[:, -120:] = 255
    fitted = fit(image, TARGET)
    assert fitted.max() == 0
    wider = np.zeros((360, 720, 3), np.uint8)
    wider[:, :130] = 255
    assert np.flatnonzero(fit(wider, TARGET)[0, :, 0]).tolist() == list(range(10))


def test_what_is_done_is_said() -> None:
    assert description((960, 720), TARGET) == (
        "frames are scaled from 960x720 to 480x360, the bundle's input size"
    )
    assert description((1920, 1080), TARGET) == (
        "frames are scaled from 1920x1080 to 640x360"
        " and cropped at the centre to the bundle's input size 480x360"
    )
