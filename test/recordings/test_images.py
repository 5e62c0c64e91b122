"""Images scaled to a bundle's size, degraded, and written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.images import (
    degradation,
    describe_fit,
    fit_image,
    scaled_size,
    swap_red_and_blue,
    write_video,
)
from unirestore_ros.synthetic import corruptions, driving

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
def test_scaled_image_covers_the_target(source: tuple[int, int], scaled: tuple[int, int]) -> None:
    assert scaled_size(source, TARGET) == scaled
    image = np.zeros((source[1], source[0], 3), np.uint8)
    fitted = fit_image(image, TARGET)
    assert fitted.shape == (360, 480, 3)
    assert fitted.flags.c_contiguous


def test_image_of_the_right_size_is_untouched() -> None:
    image = np.random.default_rng(0).integers(0, 256, (360, 480, 3), dtype=np.uint8)
    assert fit_image(image, TARGET) is image
    assert "nothing is scaled" in describe_fit((480, 360), TARGET)


def test_crop_is_at_the_centre() -> None:
    """A image twice as wide as high: its outer quarters fall away."""
    image = np.zeros((360, 720, 3), np.uint8)
    image[:, :120] = image[:, -120:] = 255
    fitted = fit_image(image, TARGET)
    assert fitted.max() == 0
    wider = np.zeros((360, 720, 3), np.uint8)
    wider[:, :130] = 255
    assert np.flatnonzero(fit_image(wider, TARGET)[0, :, 0]).tolist() == list(range(10))


def test_what_fitting_does_is_reported() -> None:
    assert describe_fit((960, 720), TARGET) == (
        "frames are scaled from 960x720 to 480x360, the size asked for"
    )
    assert describe_fit((1920, 1080), TARGET) == (
        "frames are scaled from 1920x1080 to 640x360"
        " and cropped at the centre to the size asked for 480x360"
    )


def test_every_driving_degradation_has_its_name() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for name in (*driving.DEGRADATIONS, *driving.MIXTURES):
        assert degradation(name, 3)(frame, 0).shape == frame.shape


def test_corruptions_of_the_benchmark_have_theirs() -> None:
    pytest.importorskip("imagecorruptions")
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name in ("gaussian_noise", "imagenet_c/fog"):
        bare = name.rpartition("/")[2]
        expected = corruptions.corrupt(swap_red_and_blue(frame), bare, 2, "demo 7")
        assert (degradation(name, 2)(frame, 7) == swap_red_and_blue(expected)).all()


def test_unknown_degradation_is_refused_with_the_likely_one() -> None:
    with pytest.raises(RecordingError, match=r"no degradation 'fogg'. Did you mean fog\?"):
        degradation("fogg", 3)


def test_video_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot write MP4"):
        write_video(tmp_path / "no_folder" / "overlay.mp4", [np.zeros((48, 64, 3), np.uint8)], 5.0)
