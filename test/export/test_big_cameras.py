"""A frame larger than the working size keeps the detail that only it has."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from unirestore_ros.export.measure import run
from unirestore_ros.export.parts import _shrunk
from unirestore_ros.export.plan import Plan
from unirestore_ros.export.recipe import read_recipe
from unirestore_ros.model.weights import load_weights
from unirestore_ros.synthetic.drive import demo_frames

ENGINES = Path(__file__).parents[2] / "engines"


def laplacian_energy(rgb: NDArray[np.uint8]) -> float:
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float64)
    return float((cv2.Laplacian(grey, cv2.CV_64F) ** 2).mean())


@torch.inference_mode()
def test_a_clean_1080p_frame_keeps_its_detail() -> None:
    recipe = read_recipe(ENGINES / "tiny-1920x1080.yaml")
    plan = Plan(load_weights(recipe.weights), recipe)
    clean = next(iter(demo_frames(5, recipe.input_size, range(1)))).clean
    given = {"frame": torch.from_numpy(clean)[None]}
    given["prompt"] = plan.prompts["perception"][None]
    given.update(run(plan.part("trunk", "fp32"), given))
    restored = run(plan.part("decoder", "fp32"), given)["image"][0].numpy()
    assert restored.shape == clean.shape
    assert laplacian_energy(restored) >= 0.9 * laplacian_energy(clean)


@pytest.mark.parametrize("size", [(12, 8), (8, 6), (6, 4), (7, 5)])
def test_shrinking_reads_every_pixel(size: tuple[int, int]) -> None:
    """By whole factors it is an average: no pixel that a camera saw is passed over."""
    width, height = size
    image = torch.rand(1, 3, 12, 24, dtype=torch.float64).requires_grad_()
    shrunk = _shrunk(image, size)
    assert shrunk.shape[-2:] == (height, width)
    shrunk.sum().backward()
    assert image.grad is not None
    if 24 % width == 0 and 12 % height == 0:
        assert bool((image.grad > 0).all())
        torch.testing.assert_close(shrunk.mean(), image.mean())
