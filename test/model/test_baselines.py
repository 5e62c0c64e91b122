"""Baselines and ablations: equal compute, any size, weights on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from random_weights import fill_zeros
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unirestore_ros.model import TINY, UniRestore
from unirestore_ros.model.baselines import (
    BASELINES,
    SinglePrompt,
    load_baseline,
    read_baseline,
    save_baseline,
)

FRAME = (1, 3, 368, 480)


def fresh(name: str) -> nn.Module:
    torch.manual_seed(1)
    network = BASELINES[name].make()
    fill_zeros(network, 0.05)
    return network.eval().requires_grad_(False)


def compute(network: nn.Module) -> int:
    """Operations on a padded frame of 480x360, a multiply-add as two."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.eval().requires_grad_(False)(torch.rand(FRAME))
    return int(counter.get_total_flops())


@pytest.fixture(scope="module")
def ours() -> int:
    """Trunk and one decode."""
    return compute(UniRestore(TINY))


def test_nafnet_has_the_compute_of_trunk_and_one_decode(ours: int) -> None:
    assert compute(BASELINES["nafnet"].make()) == pytest.approx(ours, rel=0.05)


def test_an_ablation_does_without_what_was_taken_out(ours: int) -> None:
    assert compute(BASELINES["unirestore-without-cfrm"].make()) < 0.9 * ours


@pytest.mark.parametrize(("height", "width"), [(64, 80), (70, 91), (33, 121)])
def test_nafnet_keeps_any_size(height: int, width: int) -> None:
    images = torch.rand(1, 3, height, width)
    restored = fresh("nafnet")(images)
    assert restored.shape == images.shape
    assert not torch.allclose(restored, images, atol=1e-3)


def test_nafnet_starts_from_the_image_that_it_is_given() -> None:
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(BASELINES["nafnet"].make().eval()(images), images)


@pytest.mark.parametrize("name", BASELINES)
def test_weights_come_back_with_how_they_came_about(name: str, tmp_path: Path) -> None:
    network, file = fresh(name), tmp_path / f"{name}.safetensors"
    save_baseline(name, network, {"iterations": 7, "rate": 1e-3}, file)
    assert read_baseline(file)["training"] == {"iterations": 7, "rate": 1e-3}
    loaded, images = load_baseline(name, file), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images), network(images), rtol=0.02, atol=0.02)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_weights_of_another_baseline_or_kind_are_refused(tmp_path: Path) -> None:
    other = "unirestore-without-cfrm"
    save_baseline(other, fresh(other), {}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=f"holds the weights of {other}, not of nafnet"):
        load_baseline("nafnet", tmp_path / "other.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="holds no baseline's weights"):
        load_baseline("nafnet", tmp_path / "x.safetensors")


def test_a_single_prompt_serves_every_task() -> None:
    network = fresh("unirestore-single-prompt")
    assert isinstance(network, SinglePrompt)
    images = torch.rand(1, 3, 64, 64)
    before = network(images, "ir")
    network.prompts["det"].data.add_(100.0)
    after = [network(images, task) for task in TINY.tasks]
    assert not torch.equal(after[0], before)
    assert all(torch.equal(image, after[0]) for image in after)
