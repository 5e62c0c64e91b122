"""Training on from finished weights: what the phase loss sees, what each kind of pair trains."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from unirestore_ros.model import TINY, UniRestore
from unirestore_ros.model.autoencoder import PhaseNotch
from unirestore_ros.model.weights import SHIPPED_WEIGHTS, load_weights, save_weights
from unirestore_ros.synthetic.corruptions import COMMON
from unirestore_ros.train.data import FRESH_COMMON, Annotation, degraded_anew, loaded
from unirestore_ros.train.heads import labelled_names
from unirestore_ros.train.loop import Setting
from unirestore_ros.train.prepare import DRIVING, photograph_tasks, prepare
from unirestore_ros.train.refine import (
    Crops,
    detail_losses,
    perception_losses,
    phase_loss,
    with_detail_gain,
    without_notch,
)
from unirestore_ros.train.train_command import main


def gridded(clean: Tensor, period: int, levels: float) -> Tensor:
    """The images with every pixel of one phase brighter by so many grey levels."""
    image = clean.clone()
    image[..., ::period, ::period] += levels / 255
    return image


@pytest.mark.parametrize("period", [2, 8])
def test_the_phase_loss_sees_a_grid_and_nothing_else(period: int) -> None:
    clean = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    assert phase_loss(clean, clean) < 0.01
    smooth = clean + torch.linspace(0, 0.2, 96)
    assert phase_loss(smooth, clean) < 0.2
    found = phase_loss(gridded(clean, period, 4), clean)
    spread = 4 * (1 - period**-2) ** 0.5 / period  # standard deviation of one phase among all
    assert found >= 0.9 * spread


@pytest.fixture
def network() -> UniRestore:
    torch.manual_seed(0)
    return without_notch(with_detail_gain(UniRestore(TINY)))


def test_pairs_at_the_working_size_train_everything_but_the_gain(network: UniRestore) -> None:
    clean = torch.rand(1, 3, 64, 64)
    losses = perception_losses(network, gridded(clean, 2, 9), clean)
    assert set(losses) == {"image", "phase", "features", "control"}
    torch.stack(list(losses.values())).sum().backward()
    assert network.detail is not None and network.detail.conv_out.weight.grad is None
    assert network.autoencoder.conv_in.weight.grad.any()


@pytest.mark.parametrize(("task", "trains_image"), [("ir", True), ("seg", False)])
def test_pairs_at_the_cameras_size_train_the_gain(
    network: UniRestore, task: str, trains_image: bool
) -> None:
    clean = torch.rand(1, 3, 128, 128)
    losses = detail_losses(network, clean + 0.1 * torch.randn_like(clean), clean, 2, task)
    torch.stack(list(losses.values())).sum().backward()
    assert network.detail is not None and network.detail.conv_out.weight.grad.any()
    assert (network.autoencoder.conv_out.weight.grad is not None) is trains_image


def test_weights_trained_without_the_filter_are_read_with_it(
    network: UniRestore, tmp_path: Path
) -> None:
    file = tmp_path / "w.safetensors"
    save_weights(network, file)
    read = load_weights(file)
    assert read.config.detail_gain
    assert isinstance(read.autoencoder.notch, PhaseNotch)


def test_cheap_degradations_are_drawn_anew() -> None:
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    stored = np.zeros_like(clean)
    assert degraded_anew(rng, clean, stored, 0, DRIVING) is stored
    for version, name in enumerate(COMMON, start=1):
        draws = [degraded_anew(rng, clean, stored, version, DRIVING) for _ in range(2)]
        if name in FRESH_COMMON:
            assert all(draw.mean() > 64 for draw in draws), name
        else:
            assert all(draw.mean() < 64 for draw in draws), name
    assert not np.array_equal(*(degraded_anew(rng, clean, stored, 1, DRIVING) for _ in range(2)))


@pytest.mark.slow
def test_the_gain_is_trained_alone(work: Path, tmp_path: Path) -> None:
    start, out = tmp_path / "start.safetensors", tmp_path / "out.safetensors"
    save_weights(UniRestore(TINY), start)
    train = ["--threads", "1", "--work", str(work)]
    options = ["--start", str(start), "--kept", "4", "--batch", "1", "--iterations", "3"]
    assert main([*train, "gain", *options]) == 0
    assert main([*train, "export-gain", str(out), "--start", str(start)]) == 0
    before, after = load_weights(start), load_weights(out)
    assert after.detail is not None and after.detail.conv_out.weight.any()
    for name, tensor in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], tensor), name


@pytest.mark.slow
def test_prompts_are_trained_alone(work: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    train = ["--threads", "1", "--work", str(work)]
    options = ["--batch", "1", "--crop", "96", "--iterations", "4"]
    assert main([*train, "prompts", *options]) == 0
    assert main([*train, "export-prompts", str(out)]) == 0
    before = load_weights(SHIPPED_WEIGHTS / "tiny.safetensors").state_dict()
    after = load_weights(out).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"prompts.cls", "prompts.det"}


def test_crops_are_the_same_whoever_draws_them(work: Path) -> None:
    setting = Setting(work, seed=3, device=torch.device("cpu"))
    alone, in_processes = (
        list(loaded(Crops(setting, 1, 64).draw, range(0, 9), workers, setting.device))
        for workers in (0, 2)
    )
    for one, other in zip(alone, in_processes, strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    assert not torch.equal(alone[0][0], alone[2][0])


def test_a_frame_is_degraded_anew_as_often_as_asked(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (72, 96, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "street.png"), cv2.GaussianBlur(drawn, (0, 0), 3))
    note = Annotation(np.zeros((72, 96), np.uint8), np.zeros((0, 5), np.float32))
    tasks = photograph_tasks([tmp_path / "street.png"], {"street": note})
    prepare(tmp_path / "once", tasks)
    prepare(tmp_path / "twice", tasks, draws=2, jobs=2)
    first, second = (np.load(tmp_path / "twice" / f"street{suffix}.npy") for suffix in ("", ".2"))
    assert np.array_equal(first, np.load(tmp_path / "once" / "street.npy"))
    assert np.array_equal(first[0], second[0])
    assert all(not np.array_equal(a, b) for a, b in zip(first[1:4], second[1:4], strict=True))
    assert len(labelled_names(tmp_path / "twice")) == 2
