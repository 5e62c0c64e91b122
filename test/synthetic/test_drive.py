"""The drive: a function of seed, size and time, whose picture and truth agree."""

from __future__ import annotations

import numpy as np
import pytest

from unirestore_ros.evaluate.metrics import psnr
from unirestore_ros.synthetic.drive import Drive
from unirestore_ros.synthetic.frame import CATEGORIES, FAR_M, LEAST_AREA, ROAD, SKY, Frame
from unirestore_ros.tasks import SEGMENTATION_CLASSES

SIZE = (256, 192)
SEED = 12


@pytest.fixture(scope="module")
def drive() -> Drive:
    return Drive(SEED, SIZE)


@pytest.fixture(scope="module")
def frames(drive: Drive) -> list[Frame]:
    return [drive.frame(t) for t in (0.0, 0.1, 6.0)]


@pytest.fixture(scope="module")
def elsewhere() -> Frame:
    return Drive(SEED + 1, SIZE).frame(0.0)


def same(one: Frame, other: Frame) -> bool:
    return (
        np.array_equal(one.image, other.image)
        and np.array_equal(one.depth, other.depth)
        and np.array_equal(one.labels, other.labels)
        and one.boxes == other.boxes
    )


def test_frame_has_the_stated_shapes_and_types(frames: list[Frame]) -> None:
    width, height = SIZE
    for frame in frames:
        assert frame.image.shape == (height, width, 3)
        assert frame.image.dtype == np.uint8
        assert frame.depth.shape == (height, width)
        assert frame.depth.dtype == np.float32
        assert frame.labels.shape == (height, width)
        assert frame.labels.dtype == np.uint8
        assert frame.labels.max() < len(SEGMENTATION_CLASSES)


def test_any_order_of_times_gives_the_same_frames(drive: Drive, frames: list[Frame]) -> None:
    fresh = Drive(SEED, SIZE)
    late = fresh.frame(6.0)
    assert same(late, frames[2])
    assert same(fresh.frame(0.0), frames[0])
    drive.frame(300.0)  # far enough to push everything off the shelves
    assert same(drive.frame(6.0), frames[2])


def test_seeds_give_different_streets(frames: list[Frame], elsewhere: Frame) -> None:
    assert psnr(elsewhere.image, frames[0].image) < 20


def test_car_moves_smoothly(frames: list[Frame]) -> None:
    assert 12 < psnr(frames[1].image, frames[0].image) < 60
    assert psnr(frames[1].image, frames[0].image) > psnr(frames[2].image, frames[0].image)


def test_road_recedes_row_by_row(frames: list[Frame]) -> None:
    for frame in frames:
        column = SIZE[0] // 2
        rows = np.flatnonzero(frame.labels[:, column] == ROAD)
        rows = rows[rows > 0.7 * SIZE[1]]
        assert len(rows) > 10
        assert (np.diff(frame.depth[rows, column]) < 0).all()
        assert 1.5 < frame.depth[rows[-1], column] < 6


def test_sky_is_far_and_the_rest_is_not(frames: list[Frame]) -> None:
    for frame in frames:
        sky = frame.labels == SKY
        assert sky.any()
        assert (frame.depth[sky] == FAR_M).all()
        assert (frame.depth[~sky] < FAR_M).all()
        assert frame.depth.min() > 0.5


def test_boxes_are_tight_and_hold_their_class(frames: list[Frame]) -> None:
    boxes = [(frame, box) for frame in frames for box in frame.boxes]
    assert boxes
    for frame, box in boxes:
        label, least_width, least_height = CATEGORIES[box.category]
        assert box.width >= least_width
        assert box.height >= least_height
        inside = frame.labels[box.y : box.y + box.height, box.x : box.x + box.width] == label
        assert inside.shape == (box.height, box.width)
        assert inside.sum() >= box.area >= LEAST_AREA
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()


def test_labelled_things_look_like_something(frames: list[Frame]) -> None:
    """The picture's edges fall on the label map's: both are painted by the same calls."""
    frame = frames[0]
    sky = frame.labels == SKY
    brightness = frame.image.mean(axis=2)
    assert brightness[sky].mean() > brightness[~sky].mean() + 20


def test_another_size() -> None:
    frame = Drive(3, (133, 67)).frame(2.0)
    assert frame.image.shape == (67, 133, 3)
    assert ROAD in frame.labels


def test_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="31x64"):
        Drive(1, (31, 64))


def test_contrast_and_spectrum_are_those_of_photographs(
    frames: list[Frame], elsewhere: Frame
) -> None:
    """Amplitude falls as 1/f, give or take: what networks learn here must hold on a real camera."""
    slopes = []
    side = SIZE[1]
    index = np.fft.fftfreq(side) * side
    frequency = np.hypot(index[:, None], index[None])
    window = np.hanning(side)[:, None] * np.hanning(side)[None]
    for frame in (frames[0], frames[2], elsewhere):
        grey = frame.image.mean(axis=2)[:, :side]
        assert 30 < grey.std() < 90
        amplitude = np.abs(np.fft.fft2((grey - grey.mean()) * window))
        bands = [(4, 8), (8, 16), (16, 32), (32, 64), (64, side / 2)]
        means = [amplitude[(frequency >= a) & (frequency < b)].mean() for a, b in bands]
        middles = [np.sqrt(a * b) for a, b in bands]
        slopes.append(np.polyfit(np.log(middles), np.log(means), 1)[0])
    assert -1.4 < np.mean(slopes) < -0.7
