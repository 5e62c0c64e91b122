"""The composed image: views, divider, strip, and what is said of it."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from display_frames import flat

from unirestore_ros.display.canvas import COLOURS, Scene, compose
from unirestore_ros.display.overlay import Area, Box
from unirestore_ros.display.parameters import View
from unirestore_ros.display.selection import FrameStatus
from unirestore_ros.msgs.encodings import Pixels

SIZE = (1280, 720)
STRIP = 72
IMAGE, CAMERA = 200, 60
BEGIN, END = 208, 1072  # columns of a 4:3 image on the canvas
SCENE = Scene(
    View.RESTORED,
    FrameStatus.RESTORED,
    "",
    flat(IMAGE, (480, 360)),
    flat(CAMERA, (480, 360)),
    age_ms=120.0,
    fps=29.6,
    tasks=("segmentation",),
)


def drawn(**changes: object) -> Pixels:
    return compose(dataclasses.replace(SCENE, **changes), SIZE)


def row(canvas: Pixels) -> Pixels:
    """Levels along the middle of the image."""
    return canvas[(SIZE[1] - STRIP) // 2 + 40, :, 0]


def strip_colour(canvas: Pixels) -> tuple[int, ...]:
    return tuple(canvas[-STRIP + 4, 4].tolist())


@pytest.mark.parametrize("size", [(1280, 720), (320, 240), (640, 480), (3840, 2160), (720, 1280)])
def test_any_size(size: tuple[int, int]) -> None:
    assert compose(SCENE, size).shape == (size[1], size[0], 3)


def test_the_image_keeps_its_shape_in_the_middle() -> None:
    levels = row(drawn())
    begin, end = BEGIN, END
    assert (levels[begin:end] == IMAGE).all()
    assert (levels[:begin] != IMAGE).all() and (levels[end:] != IMAGE).all()


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_divider_divides(share: float) -> None:
    levels = row(drawn(view=View.SPLIT, divider=share))
    begin, end = BEGIN, END
    at = begin + round(share * (end - begin))
    assert (levels[begin : max(begin, at - 5)] == CAMERA).all()
    assert (levels[min(end, at + 5) : end] == IMAGE).all()


@pytest.mark.parametrize("width", [1, 2, 7, 16, 32, 39])
def test_the_divider_at_the_edge_of_a_small_image(width: int) -> None:
    small = {"image": flat(IMAGE, (width, 30)), "camera": flat(CAMERA, (width, 30))}
    shown = 648 * width / 30
    for column in (*range(1, 6), *range(round(shown) - 5, round(shown) + 1)):
        canvas = drawn(view=View.SPLIT, divider=column / shown, **small)
        assert canvas.shape == (SIZE[1], SIZE[0], 3)


@pytest.mark.parametrize("view", list(View))
@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (16384, 8)])
def test_images_of_odd_shapes_are_composed(view: View, shape: tuple[int, int]) -> None:
    images = {"image": flat(IMAGE, shape), "camera": flat(CAMERA, shape)}
    overlays = {
        "boxes": (Box(-20000, -20000, 20000, 20000, "car 0.9", (0, 0, 255)),),
        "area": Area(0, np.full((1, 320), 255, np.uint8)),
    }
    for status in FrameStatus:
        for divider in (0.0, 0.01, 0.99, 1.0):
            drawn(view=view, status=status, divider=divider, **images, **overlays)


def test_side_by_side() -> None:
    levels = row(drawn(view=View.SIDE))
    assert (levels[20:620] == CAMERA).all() and (levels[660:1260] == IMAGE).all()


@pytest.mark.parametrize("view", [View.SPLIT, View.SIDE])
def test_without_a_camera_frame_its_part_stays_dark(view: View) -> None:
    canvas = drawn(view=view, camera=None)
    assert IMAGE in row(canvas)[700:] and IMAGE not in row(canvas)[220:600]


def test_each_status_has_its_colour() -> None:
    for status in FrameStatus:
        assert strip_colour(drawn(status=status)) == COLOURS[status]
    assert (
        len(
            {
                COLOURS[status]
                for status in (FrameStatus.RESTORED, FrameStatus.CAMERA, FrameStatus.STALE)
            }
        )
        == 3
    )


def test_a_stale_image_is_darkened_framed_and_labelled() -> None:
    canvas = drawn(status=FrameStatus.STALE, age_ms=2500.0)
    image = canvas[: -STRIP - 1]
    assert tuple(image[6, 640].tolist()) == COLOURS[FrameStatus.STALE]
    assert image[60, BEGIN + 60, 0] == round(IMAGE * 0.4)
    assert (image[250:400] == (245, 245, 245)).all(axis=2).any(), "the word"


def test_without_an_image_the_reason_is_written() -> None:
    canvas = drawn(status=FrameStatus.WAITING, image=None, reason="no image yet")
    assert canvas[:-STRIP].max() > 100
    assert strip_colour(canvas) == COLOURS[FrameStatus.WAITING]


def test_words_that_are_too_long_do_not_run_into_the_figures() -> None:
    said = drawn(status=FrameStatus.CAMERA, reason="word " * 100)[-STRIP:, 980:]
    nothing = drawn(status=FrameStatus.CAMERA, reason="")[-STRIP:, 980:]
    np.testing.assert_array_equal(said, nothing)


def test_overlays_are_drawn_on_every_image() -> None:
    mask = np.full((9, 12), 255, np.uint8)
    box = Box(100, 100, 200, 200, "car", (0, 0, 255))
    canvas = drawn(view=View.SIDE, area=Area(0, mask), boxes=(box,))
    plain = drawn(view=View.SIDE)
    changed = np.abs(canvas.astype(int) - plain).max(axis=2)[:-STRIP] > 0
    assert changed[:, :640].mean() > 0.3 and changed[:, 640:].mean() > 0.3


def test_the_sources_are_left_as_they_were() -> None:
    before = SCENE.image.copy() if SCENE.image is not None else None
    drawn(status=FrameStatus.STALE, area=Area(0, np.full((9, 12), 255, np.uint8)))
    np.testing.assert_array_equal(SCENE.image, before)


def test_an_image_of_the_canvas_size_is_not_blurred() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (648, 1280, 3), np.uint8)
    canvas = compose(dataclasses.replace(SCENE, image=noise, camera=None), SIZE)
    assert np.array_equal(canvas[:-STRIP], noise)
    assert cv2.Laplacian(canvas, cv2.CV_64F).std() > 0


def test_no_two_warnings_of_the_restorers_frames_share_a_colour() -> None:
    """UNCONFIRMED is shown as CAMERA is: both are the camera's picture as far as anyone knows."""
    colours = [COLOURS[status] for status in FrameStatus if status is not FrameStatus.UNCONFIRMED]
    assert len(set(colours)) == len(colours)


def test_no_picture_says_why() -> None:
    said = drawn(image=None, status=FrameStatus.NO_PICTURE, reason="encoding 'h264' " + 40 * "x ")
    assert strip_colour(said) == COLOURS[FrameStatus.NO_PICTURE]
    other = drawn(image=None, status=FrameStatus.NO_PICTURE, reason="encoding '16UC1'")
    middle = np.s_[200:500]
    assert (said[middle] != other[middle]).any()
    assert (said[middle, :10] == said[0, 0]).all() and (said[middle, -10:] == said[0, 0]).all()


def test_an_unknown_age_is_not_given_as_a_figure() -> None:
    """Whatever has passed since the frame arrived."""
    note = "age unknown: camera clock is 12.0 s behind"
    one, other = (drawn(age_note=note, age_ms=age) for age in (20.0, 209.0))
    np.testing.assert_array_equal(one, other)
    assert (one != drawn()).any()
    stale = [drawn(status=FrameStatus.STALE, age_note=note, age_ms=age) for age in (900.0, 12000.0)]
    np.testing.assert_array_equal(*stale)
