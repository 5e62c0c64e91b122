"""What a camera larger than the working size gets: tiling, and the rows of a small run."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import pytest

from unirestore_ros.evaluate.camera_size import GAUSSIAN, measure, side_by_side, table
from unirestore_ros.evaluate.command import read_size
from unirestore_ros.model.weights import SHIPPED_WEIGHTS, load_weights
from unirestore_ros.synthetic.drive import Drive
from unirestore_ros.synthetic.programme import DEMO_SEED


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clean")
    drive = Drive(DEMO_SEED, (320, 240))
    written = []
    for i in range(2):
        written.append(folder / f"{i}.png")
        cv2.imwrite(str(written[-1]), drive.frame(3.0 * i).image[..., ::-1])
    return written


def test_images_lie_side_by_side_and_what_is_over_is_cut(files: list[Path]) -> None:
    first, second = (cv2.imread(str(file))[..., ::-1] for file in files)
    frame = side_by_side(files, (500, 300))
    assert frame.shape == (300, 500, 3)
    assert np.array_equal(frame[:240, :320], first)
    assert np.array_equal(frame[:240, 320:], second[:, :180])
    assert np.array_equal(frame[240:, :320], first[:60])


@pytest.mark.slow
def test_noise_is_taken_out_and_a_clean_frame_is_kept(files: list[Path]) -> None:
    network = load_weights(SHIPPED_WEIGHTS / "tiny.safetensors")
    clean, noisy, dark = measure(network, files, (640, 480), ["driving/low_light"])
    assert (clean["corruption"], noisy["corruption"]) == (None, GAUSSIAN)
    assert dark["degraded"] < 20 and clean["degraded"] is None
    assert clean["gain"]["psnr"] >= 32 and clean["gain"]["laplacian"] >= 0.8
    assert noisy["gain"]["psnr"] >= noisy["gain_1"]["psnr"] + 3
    assert noisy["mean_gain"] < 0.5 < clean["mean_gain"]
    assert table([clean, noisy, dark]).count("\n") == 5


@pytest.mark.parametrize("text", ["1440", "1440x", "0x5", "axb", "1440X1080"])
def test_what_is_no_size_is_refused(text: str) -> None:
    assert read_size("1440x1080") == (1440, 1080)
    with pytest.raises(argparse.ArgumentTypeError, match="is no size"):
        read_size(text)
