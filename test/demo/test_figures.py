"""Overlay, figure and views of features."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from unirestore_ros.demo.figures import (
    AMBER,
    GREEN,
    Glance,
    before_after,
    draw_overlay,
    overlay_images,
    principal_images,
)
from unirestore_ros.demo.record import Frames, Record
from unirestore_ros.demo.report import StretchReport
from unirestore_ros.display.lettering import draw_text, text_width
from unirestore_ros.recordings.images import write_video

SHAPE = (360, 480, 3)


def level(value: int) -> np.ndarray:
    return np.full(SHAPE, value, np.uint8)


def share_of(image: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float((image == np.array(colour, np.uint8)).all(axis=2).mean())


def test_overlay_shows_camera_left_and_restored_right() -> None:
    image = draw_overlay(level(40), level(200), Glance("restored", "fog", 5.0, 120.0))
    height, width = image.shape[:2]
    assert width == 960 and height % 2 == 0 and height > 720
    assert (image[360, 100] == 40).all()
    assert (image[360, -100] == 200).all()


def test_strip_says_the_mode_in_its_colour() -> None:
    for mode, colour, other in (("restored", GREEN, AMBER), ("camera", AMBER, GREEN)):
        strip = draw_overlay(level(0), level(0), Glance(mode, "fog", None, None))[720:]
        assert share_of(strip, colour) > 0.05
        assert share_of(strip, other) == 0.0


def test_strip_changes_with_stretch_fps_and_age() -> None:
    glances = [
        Glance("restored", "fog", 5.0, 120.0),
        Glance("restored", "rain", 5.0, 120.0),
        Glance("restored", "fog", 4.0, 120.0),
        Glance("restored", "fog", 5.0, 130.0),
    ]
    strips = [draw_overlay(level(0), level(0), glance)[720:] for glance in glances]
    for strip in strips[1:]:
        assert (strip != strips[0]).any()


@pytest.mark.parametrize("shape", [(360, 481, 3), (120, 161, 3), (1080, 1920, 3)])
def test_video_reads_back_whatever_the_size(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    images = [
        draw_overlay(np.full(shape, value, np.uint8), np.full(shape, value, np.uint8), glance)
        for value, glance in ((50, Glance("restored", "fog", 5.0, 1.0)),) * 3
    ]
    path = tmp_path / "overlay.mp4"
    write_video(path, images, 5.0)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(5.0)
    read, image = capture.read()
    assert read and image.shape == images[0].shape
    assert abs(float(image[:100, 200:300].mean()) - 50) < 8


def test_an_overlay_image_for_each_image_shown(frames: Frames, record: Record) -> None:
    images = list(overlay_images(frames, record))
    assert len(images) == len(record.shown) == 5


def test_figure_has_a_row_a_stretch_and_a_column_a_kind(frames: Frames, record: Record) -> None:
    stretches = [
        StretchReport("fog", 3, 2, "dehaze", ((20.0, 21.0, 25.0),)),
        StretchReport("rain", 3, 2, "untouched", ((20.0, 20.0, 25.0),)),
    ]
    figure = before_after(frames, record, stretches, "a subtitle")
    # camera, restored, clean and one task's features, 400 pixels each
    assert figure.shape[1] == 2 * 24 + 4 * 400 + 3 * 8
    assert figure.shape[0] > 2 * 300
    levels = {int(value) for value in np.unique(figure[:, 24:424].reshape(-1, 3)[:, 0])}
    assert {110, 120} <= levels, "both stretches' degraded frames are in the first column"


def test_a_cameras_image_has_its_own_pixels(
    frames: Frames, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = np.random.default_rng(0).integers(0, 256, (540, 960, 3), np.uint8)
    for name in ("camera", "shown", "clean"):
        monkeypatch.setattr(type(frames), name, lambda self, which: wide)
    stretches = [StretchReport(name, 3, 2, "dehaze", ()) for name in ("fog", "rain")]
    figure = before_after(frames, record, stretches, "a subtitle")
    windows = [figure[top : top + 540, 24 : 24 + 960] for top in range(figure.shape[0] - 540)]
    assert any(np.array_equal(window, wide) for window in windows)


def test_features_become_colours_that_mean_the_same_in_each_map() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(6, 8, 5)).astype(np.float32)
    one, other, again = principal_images([base, base * 2 + 1, base])
    assert one.shape == (6, 8, 3) and one.dtype == np.uint8
    assert (one == again).all() and (one != other).any()
    assert one.max() > 200 and one.min() < 50


@pytest.mark.parametrize("channels", [1, 2, 3, 128])
def test_any_number_of_channels_can_be_seen(channels: int) -> None:
    features = np.random.default_rng(1).normal(size=(6, 8, channels)).astype(np.float32)
    (image,) = principal_images([features])
    assert image.shape == (6, 8, 3)
    blank = (image == 0).all(axis=(0, 1))
    assert int((~blank).sum()) == min(channels, 3)


def test_constant_features_do_not_divide_by_zero() -> None:
    (image,) = principal_images([np.ones((4, 4, 6), np.float32)])
    assert np.isfinite(image).all()
    assert principal_images([]) == []


def test_text_is_as_wide_as_it_says() -> None:
    for bold in (False, True):
        image = np.zeros((60, 600, 3), np.uint8)
        draw_text(image, "RESTORED 12.5", (10, 40), 24, (255, 255, 255), bold)
        inked = np.flatnonzero(image.any(axis=(0, 2)))
        assert abs((inked[-1] - 10) - text_width("RESTORED 12.5", 24, bold)) <= 4


def test_text_is_drawn_without_opencv_5(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "FontFace", raising=False)
    image = np.zeros((60, 600, 3), np.uint8)
    draw_text(image, "age 120 ms — é", (10, 40), 24, (255, 255, 255))
    inked = np.flatnonzero(image.any(axis=(0, 2)))
    assert len(inked) and inked[-1] <= 10 + text_width("age 120 ms — é", 24) + 4
