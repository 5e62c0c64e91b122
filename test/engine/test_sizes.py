"""Frames of any size: how the working size is chosen, and what comes back at the frame's size."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from clean_frames import LEAST_DB, LEAST_ENERGY, SIZES, clean_scene, laplacian_energy
from numpy.typing import NDArray

from unirestore_ros.engine import Engine, open_engine
from unirestore_ros.engine.backends import open_backend
from unirestore_ros.engine.bundle import read_bundle
from unirestore_ros.engine.detail import DetailKeeper, pad_to_multiple, settled
from unirestore_ros.engine.working_size import LARGEST, FrameSizes, Size, SizeRule, aspect_error
from unirestore_ros.evaluate.metrics import psnr

Pixels = NDArray[np.uint8]
SHIPPED = Path(__file__).parents[2] / "engines" / "tiny"
TINY = SizeRule((480, 360), None, stride=8, multiple=16, least_side=64)
PUBLISHED = SizeRule((512, 512), 512, stride=8, multiple=64, least_side=64)


@pytest.mark.parametrize("frame", SIZES)
def test_working_sizes_of_common_cameras(frame: Size) -> None:
    sizes = TINY.sizes_for(frame)
    assert sizes.working == SIZES[frame]
    assert aspect_error(frame, sizes.working) <= 0.02


def test_every_frame_has_a_working_size_near_the_budget() -> None:
    drawn = random.Random(0)
    for _ in range(2000):
        width = drawn.randint(64, 4096)
        height = drawn.randint(max(64, -(-width // 4)), min(4096, 4 * width))
        sizes = TINY.sizes_for((width, height))
        (w, h), padded = sizes.working, sizes.padded
        assert aspect_error((width, height), (w, h)) <= 0.02
        assert all(0 <= p - s < 16 and p % 16 == 0 for p, s in zip(padded, (w, h), strict=True))
        assert max(padded) <= 832
        if sizes.is_reduced:
            assert w % 8 == h % 8 == 0 and 0.95 < w * h / (480 * 360) < 1.03
        else:
            assert width * height <= 480 * 360
        least, _, most = TINY.extremes()
        bounds = zip(least, padded, most, strict=True)
        assert all(low <= side <= high for low, side, high in bounds)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ((63, 64), "from 64 to 4096"),
        ((4097, 2000), "from 64 to 4096"),
        ((64, 257), "over 4 times"),
        ((1000, 249), "over 4 times"),
    ],
)
def test_frames_out_of_range_are_refused_by_name(frame: Size, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"frames are {frame[0]}x{frame[1]}: .*{reason}"):
        TINY.sizes_for(frame)


def test_the_published_network_works_at_a_shorter_side_of_512() -> None:
    assert PUBLISHED.sizes_for((480, 360)) == FrameSizes((480, 360), (680, 512), (704, 512))
    assert PUBLISHED.sizes_for((1080, 1920)).padded == (512, 960)
    assert PUBLISHED.extremes() == ((512, 512), (512, 512), LARGEST)
    with pytest.raises(ValueError, match="their working size 2048x512 is over 1920x1088"):
        PUBLISHED.sizes_for((4096, 1024))


def test_features_cover_the_frame_and_at_most_a_part_of_a_pixel_more() -> None:
    sizes = TINY.sizes_for((1920, 1080))
    assert sizes.feature_size(4) == (138, 78)
    across, down = sizes.feature_pitch(4)
    assert (across, down) == (4 * 1920 / 552, 4 * 1080 / 312)
    odd = TINY.sizes_for((322, 200))
    assert odd.feature_size(4) == (81, 50) and odd.feature_pitch(4) == (4, 4)


def test_padding_is_a_reflection_without_its_border() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (21, 35, 3), dtype=np.uint8)
    expected = cv2.copyMakeBorder(frame, 0, 11, 0, 13, cv2.BORDER_REFLECT_101)
    np.testing.assert_array_equal(pad_to_multiple(frame, 16), expected)


@pytest.mark.parametrize("frame", [(640, 480), (752, 480), (1280, 720), (1920, 1080), (3840, 2160)])
def test_reducing_reads_every_pixel(frame: Size) -> None:
    """A bright pixel is seen wherever it lies, and brightness is kept."""
    keeper = DetailKeeper(TINY.sizes_for(frame))
    width, height = keeper.sizes.working
    drawn = np.random.default_rng(0)
    for _ in range(20):
        image = np.zeros((frame[1], frame[0], 3), np.uint8)
        x, y = drawn.integers(0, frame[0] - 1), drawn.integers(0, frame[1] - 1)
        image[y, x] = 255
        if frame[0] < 3000:  # at a seventh of each side a single pixel is 5 levels, or rounds to 0
            assert keeper.reduce(image)[:height, :width].any(), (x, y)
    noise = drawn.integers(0, 256, (frame[1], frame[0], 3), dtype=np.uint8)
    reduced = keeper.reduce(noise)[:height, :width]
    assert abs(float(reduced.mean()) - float(noise.mean())) < 1


def enlarged(image: NDArray[np.float64], size: Size) -> NDArray[np.float64]:
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.float64)


@pytest.mark.parametrize("with_gain", [False, True])
@pytest.mark.parametrize("frame", [(640, 480), (1283, 719)])
def test_the_picture_is_the_enlarged_one_and_the_frames_detail(
    frame: Size, with_gain: bool
) -> None:
    """The contract's formula in float64, within the rounding of bytes."""
    drawn = np.random.default_rng(1)
    image = cv2.GaussianBlur(
        drawn.integers(0, 256, (frame[1], frame[0], 3), dtype=np.uint8), (0, 0), 1.5
    )
    keeper = DetailKeeper(TINY.sizes_for(frame))
    width, height = keeper.sizes.working
    reduced = keeper.reduce(image).copy()
    restored = cv2.add(reduced, 9)
    gain = drawn.random((*reduced.shape[:2], 1), np.float32) * 2 if with_gain else None
    picture = keeper.fuse(restored, gain)

    whole = [enlarged(a[:height, :width].astype(float), frame) for a in (restored, reduced)]
    factor = np.ones(image.shape[:2])
    if gain is not None:
        factor = enlarged(settled(gain[:height, :width, 0]).astype(float), frame)
    detail = factor[..., None] * (image - whole[1]) if with_gain else image - whole[1]
    expected = np.clip(whole[0] + detail, 0, 255)
    assert picture.shape == (frame[1], frame[0], 3)
    assert np.abs(picture - expected).max() <= 3.1
    assert np.abs(picture - expected).mean() < 0.7


def test_a_gain_of_nearly_one_counts_as_one() -> None:
    gain = np.array([0, 0.3, 0.6, 0.75, 0.9, 0.95, 1, 1.5], np.float32)
    expected = [0, 0.3, 0.6, 0.8, 1, 1, 1, 1.5]
    np.testing.assert_allclose(settled(gain), expected, atol=1e-6)


def test_without_gain_the_finest_detail_is_left_out() -> None:
    keeper = DetailKeeper(TINY.sizes_for((1280, 720)))
    noise = np.random.default_rng(2).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    reduced = keeper.reduce(noise)
    picture = keeper.fuse(reduced, np.zeros((*reduced.shape[:2], 1), np.float32))
    assert picture.std() < 0.5 * noise.std()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with open_engine(SHIPPED, "onnxruntime") as engine:
        yield engine


@pytest.fixture(scope="module")
def scene() -> Pixels:
    return clean_scene()


def of_size(image: Pixels, size: Size) -> Pixels:
    """Cut a smaller size out of the image's middle; lay it side by side for a larger one."""
    width, height = size
    across, down = -(-width // image.shape[1]), -(-height // image.shape[0])
    tiled = np.tile(image, (down, across, 1))
    left = (tiled.shape[1] - width) // 2 if across == 1 else 0
    top = (tiled.shape[0] - height) // 2 if down == 1 else 0
    return np.ascontiguousarray(tiled[top : top + height, left : left + width])


@pytest.mark.parametrize("frame", SIZES)
def test_the_shipped_bundle_takes_it_and_keeps_its_detail(
    engine: Engine, scene: Pixels, frame: Size
) -> None:
    clean = of_size(scene, frame)
    engine.run_trunk(clean)
    picture = engine.decode("perception")
    assert picture.shape == clean.shape and picture.flags.c_contiguous
    width, height = engine.sizes.feature_size(4)
    assert engine.adapt("segmentation").shape == (height, width, 48)
    assert engine.feature_shape == (height, width, 48)
    assert psnr(picture, clean) >= LEAST_DB
    if engine.sizes.is_reduced:
        assert laplacian_energy(picture) >= LEAST_ENERGY * laplacian_energy(clean)


def _read(file: Path) -> Pixels:
    image = cv2.imread(str(file))
    assert image is not None
    return np.asarray(image, np.uint8)


def photographs(shared_data: Path) -> list[Pixels]:
    files = sorted((shared_data / "camvid" / "val" / "images").glob("*.jpg"))[::40][:3]
    return [np.ascontiguousarray(_read(file)[..., ::-1]) for file in files]


@pytest.mark.parametrize("frame", SIZES)
def test_clean_photographs_come_back(engine: Engine, shared_data: Path, frame: Size) -> None:
    for photograph in photographs(shared_data):
        clean = of_size(photograph, frame)
        engine.run_trunk(clean)
        picture = engine.decode("perception")
        assert psnr(picture, clean) >= LEAST_DB
        assert laplacian_energy(picture) >= LEAST_ENERGY * laplacian_energy(clean)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_sizes_may_alternate_and_give_the_same_bits(backend: str, scene: Pixels) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    frames = [of_size(scene, size) for size in ((640, 480), (200, 160))]
    with open_engine(SHIPPED, backend) as engine:
        first = []
        for frame in frames:
            engine.run_trunk(frame)
            first.append((engine.decode("perception").tobytes(), engine.adapt("detection").copy()))
        for frame, (picture, features) in zip(frames, first, strict=True):
            engine.run_trunk(frame)
            assert engine.decode("perception").tobytes() == picture
            np.testing.assert_array_equal(engine.adapt("detection"), features)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_gain_is_computed_only_where_a_frame_is_reduced(backend: str, scene: Pixels) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    bundle = read_bundle(SHIPPED)
    frame = of_size(scene, (480, 360))
    padded = pad_to_multiple(frame, 16)
    size = (padded.shape[1], padded.shape[0])
    made = []
    for gain in (True, False):
        parts = open_backend(bundle, backend, 0, 0, size, gain)
        parts.run_trunk(padded)
        image, levels = parts.decode("perception")
        assert parts.gives_gain is gain and (levels is not None) is gain
        made.append(image.copy())
    np.testing.assert_array_equal(*made)
    with open_engine(SHIPPED, backend, frame_size=(480, 360)) as engine:
        assert engine.is_ready_for(480, 360) and not engine.is_ready_for(640, 480)
        engine.pin(640, 480)  # of the same working size
        assert engine.is_ready_for(640, 480) and engine.is_ready_for(480, 360)


def test_pinning_beforehand_makes_the_first_frame_quick(engine: Engine) -> None:
    engine.pin(640, 480)
    assert engine.is_ready_for(480, 360) and not engine.is_ready_for(1920, 1080)
    engine.pin(1920, 1080)
    assert engine.sizes.frame == (1920, 1080) and engine.is_ready_for(1280, 720)
    with pytest.raises(ValueError, match="run_trunk comes first"):
        engine.decode("perception")


def test_an_engine_can_be_opened_for_a_size(bundle_folder: Path) -> None:
    with open_engine(bundle_folder, "onnxruntime", frame_size=(96, 64)) as engine:
        assert engine.sizes.frame == (96, 64)


def test_reducing_and_fusing_a_1080p_frame_is_quick() -> None:
    """At most 20 ms on two idle cores; five times that here, where others may be busy."""
    keeper = DetailKeeper(TINY.sizes_for((1920, 1080)))
    frame = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    gain = np.ones((*keeper.reduce(frame).shape[:2], 1), np.float32)
    taken = []
    for _ in range(12):
        start = time.perf_counter()
        keeper.fuse(keeper.reduce(frame), gain)
        taken.append(time.perf_counter() - start)
    assert min(taken) < 0.1
