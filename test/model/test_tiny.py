"""The tiny network: sizes, steps, determinism, weights on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from unirestore_ros.model import SD_TURBO, TINY, Config, UniRestore
from unirestore_ros.model.denoiser import timesteps
from unirestore_ros.model.tfa import shifted_window_means
from unirestore_ros.model.weights import load_weights, save_weights


@pytest.fixture(scope="module")
def net() -> UniRestore:
    """Random weights, also where training starts at zero, so that every part moves the output."""
    torch.manual_seed(1)
    network = UniRestore(TINY)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval().requires_grad_(False)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("config", [TINY, SD_TURBO])
def test_config_survives_json(config: Config) -> None:
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(("height", "width"), [(64, 80), (70, 91), (121, 65)])
def test_restore_keeps_any_size(net: UniRestore, height: int, width: int) -> None:
    images = torch.rand(1, 3, height, width)
    assert net.restore(images).shape == images.shape


def test_an_image_too_small_is_refused(net: UniRestore) -> None:
    with pytest.raises(ValueError, match="47x33 is too small"):
        net.restore(torch.rand(1, 3, 33, 47))


def test_shapes_of_the_four_pieces(net: UniRestore, images: torch.Tensor) -> None:
    z0, skips = net.encode(images)
    zt = net.denoise(z0)
    assert z0.shape == zt.shape == (1, 4, 8, 10)
    assert [tuple(s.shape) for s in skips] == [(1, 24, 32, 40), (1, 48, 16, 20), (1, 96, 8, 10)]
    assert net.decode(zt, skips, "ir").shape == images.shape
    for stride, channels in zip(TINY.tfa.strides, TINY.tfa.feature_channels, strict=True):
        features = net.adapt(zt, skips, "seg", stride)
        assert features.shape == (1, channels, 64 // stride, 80 // stride)


def test_same_frame_same_output_whatever_ran_between(net: UniRestore, images: torch.Tensor) -> None:
    first = net.restore(images, "seg")
    net.restore(torch.rand(1, 3, 96, 64), "ir", steps=2)
    assert torch.equal(net.restore(images, "seg"), first)


def test_a_prompt_moves_its_own_task_only(net: UniRestore, images: torch.Tensor) -> None:
    before = {task: net.restore(images, task) for task in TINY.tasks}
    saved = net.prompts["det"].clone()
    net.prompts["det"].data.mul_(-5)
    after = {task: net.restore(images, task) for task in TINY.tasks}
    net.prompts["det"].data.copy_(saved)
    assert not torch.equal(before["det"], after["det"])
    assert all(torch.equal(before[task], after[task]) for task in ("ir", "cls", "seg"))


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(1, [999]), (2, [999, 499]), (3, [999, 666, 332]), (4, [999, 749, 499, 249])],
)
def test_timesteps(steps: int, expected: list[int]) -> None:
    assert timesteps(steps) == expected


def test_steps_out_of_range_are_refused(net: UniRestore, images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="choose 1 to 4"):
        net.restore(images, steps=5)


def test_a_frame_larger_than_the_stored_noise_is_refused(net: UniRestore) -> None:
    with pytest.raises(ValueError, match="larger than the stored noise"):
        net.stored_noise(torch.zeros(1, 4, 137, 240))


def test_an_unknown_stride_is_refused(net: UniRestore) -> None:
    with pytest.raises(ValueError, match=r"\(8, 4, 2\)"):
        net.level_of(16)


def test_window_means_are_the_mean_of_the_convolution() -> None:
    x = torch.rand(2, 3, 7, 5, dtype=torch.float64)
    weight = torch.rand(4, 3, 3, 3, dtype=torch.float64)
    expected = F.conv2d(x, weight, padding=1).mean(dim=(-2, -1))
    means = shifted_window_means(x).flatten(1) @ weight.flatten(1).T
    torch.testing.assert_close(means, expected)


def test_weights_round_trip_in_half_precision(net: UniRestore, tmp_path: Path) -> None:
    save_weights(net, tmp_path / "w.safetensors")
    loaded = load_weights(tmp_path / "w.safetensors")
    assert loaded.config == TINY
    assert torch.equal(loaded.noise, net.noise), "the noise is kept in full precision"
    for key, value in net.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=1e-3, atol=1e-4)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="not a file of UniRestore weights"):
        load_weights(tmp_path / "x.safetensors")
