"""The tiny network, with a denoiser and without one: sizes, steps, determinism, weights on disk."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from random_weights import fill_zeros
from safetensors.torch import save_file
from small_denoiser import TINY_WITH_DENOISER
from torch.nn import functional as F

from unirestore_ros.model import SD_TURBO, TINY, Config, UniRestore
from unirestore_ros.model.denoiser import timesteps
from unirestore_ros.model.tfa import shifted_window_means
from unirestore_ros.model.weights import CONFIG_KEY, WeightsError, load_weights, save_weights


@pytest.fixture(scope="module")
def net() -> UniRestore:
    return random_network_of(TINY)


@pytest.fixture(scope="module")
def net_with_denoiser() -> UniRestore:
    return random_network_of(TINY_WITH_DENOISER)


def random_network_of(config: Config) -> UniRestore:
    torch.manual_seed(1)
    network = UniRestore(config)
    fill_zeros(network, 0.1)
    return network.eval().requires_grad_(False)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("config", [TINY, TINY_WITH_DENOISER, SD_TURBO])
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


@pytest.mark.parametrize(("name", "steps"), [("net", 1), ("net_with_denoiser", 2)])
def test_same_frame_same_output_whatever_ran_between(
    name: str, steps: int, images: torch.Tensor, request: pytest.FixtureRequest
) -> None:
    network: UniRestore = request.getfixturevalue(name)
    first = network.restore(images, "seg")
    network.restore(torch.rand(1, 3, 96, 64), "ir", steps=steps)
    assert torch.equal(network.restore(images, "seg"), first)


@pytest.mark.parametrize("part", ["unet", "controller"])
def test_half_a_denoiser_is_refused(part: str) -> None:
    with pytest.raises(ValueError, match="tiny: unet and controller go together"):
        dataclasses.replace(TINY_WITH_DENOISER, **{part: None})


def test_a_network_without_a_denoiser_decodes_its_latent_as_it_is(
    net: UniRestore, images: torch.Tensor
) -> None:
    z0, _ = net.encode(images)
    assert torch.equal(net.denoise(z0), z0)
    with pytest.raises(ValueError, match="2 denoising steps: tiny has no denoiser"):
        net.restore(images, steps=2)


def test_each_step_of_a_denoiser_counts(
    net_with_denoiser: UniRestore, images: torch.Tensor
) -> None:
    z0, _ = net_with_denoiser.encode(images)
    one, two = net_with_denoiser.denoise(z0), net_with_denoiser.denoise(z0, 2)
    assert not torch.allclose(one, z0, atol=0.1)
    assert not torch.allclose(one, two, atol=0.1)


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


def test_steps_out_of_range_are_refused(
    net_with_denoiser: UniRestore, images: torch.Tensor
) -> None:
    with pytest.raises(ValueError, match="choose 1 to 4"):
        net_with_denoiser.restore(images, steps=5)


def test_a_frame_larger_than_the_stored_noise_is_refused(net_with_denoiser: UniRestore) -> None:
    with pytest.raises(ValueError, match="larger than the stored noise"):
        net_with_denoiser.stored_noise(torch.zeros(1, 4, 137, 240))


def test_without_a_denoiser_there_is_no_stored_noise(net: UniRestore) -> None:
    with pytest.raises(ValueError, match="tiny has no denoiser, and so no stored noise"):
        net.stored_noise(torch.zeros(1, 4, 8, 8))


def test_an_unknown_stride_is_refused(net: UniRestore) -> None:
    with pytest.raises(ValueError, match=r"\(8, 4, 2\)"):
        net.level_of(16)


def test_window_means_are_the_mean_of_the_convolution() -> None:
    x = torch.rand(2, 3, 7, 5, dtype=torch.float64)
    weight = torch.rand(4, 3, 3, 3, dtype=torch.float64)
    expected = F.conv2d(x, weight, padding=1).mean(dim=(-2, -1))
    means = shifted_window_means(x).flatten(1) @ weight.flatten(1).T
    torch.testing.assert_close(means, expected)


@pytest.mark.parametrize(
    "config", [TINY, TINY_WITH_DENOISER], ids=["without_denoiser", "with_denoiser"]
)
def test_weights_round_trip_in_half_precision(config: Config, tmp_path: Path) -> None:
    net = random_network_of(config)
    save_weights(net, tmp_path / "w.safetensors")
    loaded = load_weights(tmp_path / "w.safetensors")
    assert loaded.config == config
    assert (loaded.noise is None) == (config.unet is None)
    if net.noise is not None:
        assert torch.equal(loaded.noise, net.noise), "the noise is kept in full precision"
    for key, value in net.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("config", ["{", "[]", '{"name": "tiny", "sides": 4}'])
def test_weights_whose_configuration_is_damaged_are_refused(config: str, tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", {CONFIG_KEY: config})
    with pytest.raises(WeightsError, match=f"x.safetensors: its {CONFIG_KEY} cannot be read"):
        load_weights(tmp_path / "x.safetensors")


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="not a file of UniRestore weights"):
        load_weights(tmp_path / "x.safetensors")
