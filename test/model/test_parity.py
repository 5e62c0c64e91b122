"""The network against tensors that the published implementation computed, narrow and random."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unirestore_ros.model import UniRestore

PARITY = Path(__file__).parents[3] / "shared" / "reference" / "parity"
RELATIVE_TOLERANCE = 5e-5
WHOLE_CALL_TOLERANCE = 5e-4

pytestmark = pytest.mark.skipif(not PARITY.is_dir(), reason="needs the parity fixture in ../shared")
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def net() -> UniRestore:
    return UniRestore.from_released(
        sd_turbo=PARITY / "backbone",
        stage1=PARITY / "unirestore_stage1.ckpt",
        stage2=PARITY / "unirestore_stage2.ckpt",
        null_embedding=PARITY / "null_embedding.safetensors",
    )


@pytest.fixture(scope="module")
def reference() -> Tensors:
    return load_file(PARITY / "direct_128.safetensors")


def assert_close(ours: torch.Tensor, reference: Tensors, name: str) -> None:
    expected = reference[name]
    assert ours.shape == expected.shape, name
    worst = (ours - expected).abs().max() / expected.abs().max()
    assert worst <= RELATIVE_TOLERANCE, f"{name}: {worst:.1e} of its largest value"


@torch.inference_mode()
def test_encoder_and_controller(net: UniRestore, reference: Tensors) -> None:
    z0, skips = net.encode(reference["image"])
    assert_close(z0, reference, "z0")
    for i, skip in enumerate(skips):
        assert_close(skip, reference, f"skip{i}")
    for i, control in enumerate(net.controller(z0, torch.tensor([999]))):
        assert_close(control, reference, f"control{2**i}")


@torch.inference_mode()
def test_gates_do_not_depend_on_the_task(net: UniRestore, reference: Tensors) -> None:
    _, skips = net.encode(reference["image"])
    for i, gates in enumerate(net.gates(skips)):
        for name, value in gates._asdict().items():
            assert_close(value, reference, f"tfa{i}.{name}")


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("task", ["ir", "cls", "seg"])
@torch.inference_mode()
def test_denoised_latent_and_image(
    net: UniRestore, reference: Tensors, steps: int, task: str
) -> None:
    z0, skips = net.encode(reference["image"])
    zt = net.denoise(z0, steps, reference["noise"])
    assert_close(zt, reference, f"s{steps}.zt")
    assert_close(net.decode(zt, skips, task), reference, f"s{steps}.{task}.out")


@pytest.mark.parametrize(
    ("task", "level"), [("ir", 0), ("ir", 1), ("ir", 2), ("cls", 0), ("seg", 0)]
)
@torch.inference_mode()
def test_adapted_features(net: UniRestore, reference: Tensors, task: str, level: int) -> None:
    z0, skips = net.encode(reference["image"])
    zt = net.denoise(z0, noise=reference["noise"])
    stride = net.config.tfa.strides[level]
    assert_close(net.adapt(zt, skips, task, stride), reference, f"s1.{task}.tfa{level}.x")


@pytest.mark.parametrize(("task", "steps"), [("ir", 1), ("seg", 4)])
@torch.inference_mode()
def test_whole_call_with_the_size_rule(net: UniRestore, task: str, steps: int) -> None:
    case = load_file(PARITY / "full_300x452.safetensors")
    out = net.restore(case["image"], task, steps, case["noise"])
    assert (out - case[f"s{steps}.{task}.out"]).abs().max() <= WHOLE_CALL_TOLERANCE
