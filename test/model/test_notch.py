"""The filter behind the last layer: no grid of two pixels in what the shipped network restores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from unirestore_ros.engine import Engine, open_engine
from unirestore_ros.evaluate.conditions import degraded
from unirestore_ros.evaluate.metrics import phase_deviation, psnr
from unirestore_ros.model.autoencoder import PhaseNotch
from unirestore_ros.synthetic.drive import Drive, demo_frames
from unirestore_ros.synthetic.programme import DEMO_SEED
from unirestore_ros.train.prepare import read_photograph

SHIPPED = Path(__file__).parents[2] / "engines" / "tiny"
VAL = Path(__file__).parents[3] / "shared" / "data" / "camvid" / "val" / "images"
MOST_DEVIATION = 0.15
"""Grey levels; a photograph has 0.05, the network without the filter 0.4 to 2."""

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with open_engine(SHIPPED, "onnxruntime") as opened:
        yield opened


def restored(engine: Engine, frame: Image) -> Image:
    engine.run_trunk(frame)
    return engine.decode("perception").copy()


def drive(width: int, height: int) -> Image:
    """A clean frame of the synthetic drive."""
    return Drive(DEMO_SEED, (width, height)).frame(0.0).image


def cells_of(image: Image) -> Tensor:
    """RGB (H, W, 3) uint8 -> cells (1, 12, H/2, W/2) in [-1, 1]."""
    planes = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    return F.pixel_unshuffle(planes / 127.5 - 1, 2)


def image_of(cells: Tensor) -> Image:
    levels = (F.pixel_shuffle(cells, 2)[0] + 1) * 127.5
    return levels.clamp(0, 255).round().byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize("size", [(64, 64), (304, 544), (368, 480), (80, 400)])
def test_a_grid_is_taken_out_whatever_the_size(size: tuple[int, int]) -> None:
    height, width = size
    frame = drive(width, height)
    levels = frame.astype(np.float32) * 0.8 + 20
    levels[::2, ::2] += 4
    levels[1::2, ::2] -= 2
    gridded = levels.round().astype(np.uint8)
    assert phase_deviation(gridded, 2) > 1.5
    assert phase_deviation(image_of(PhaseNotch()(cells_of(gridded))), 2) <= MOST_DEVIATION


def test_an_image_without_a_grid_is_kept() -> None:
    frame = drive(480, 368)
    assert psnr(image_of(PhaseNotch()(cells_of(frame))), frame) >= 45


def test_a_slope_is_no_grid() -> None:
    slope = torch.linspace(-1, 1, 96).expand(1, 3, 96, 96)
    cells = F.pixel_unshuffle(slope, 2)
    torch.testing.assert_close(PhaseNotch()(cells), cells, rtol=0, atol=1e-5)


def test_no_grid_on_the_synthetic_drive(engine: Engine) -> None:
    for frame in demo_frames(5):
        assert phase_deviation(restored(engine, frame.degraded), 2) <= MOST_DEVIATION, frame.stretch


@pytest.mark.skipif(not VAL.is_dir(), reason="needs CamVid in ../shared")
@pytest.mark.parametrize(
    "corruption", [None, "gaussian_noise", "fog", "frost", "brightness", "jpeg_compression"]
)
def test_no_grid_on_photographs(engine: Engine, corruption: str | None) -> None:
    deviations = []
    for file in sorted(VAL.glob("*.jpg"))[::34]:
        clean = frame = read_photograph(file).image
        if corruption is not None:
            frame = degraded(clean, corruption, 3, file.name)
        deviations.append(phase_deviation(restored(engine, frame), 2))
    assert float(np.mean(deviations)) <= MOST_DEVIATION
