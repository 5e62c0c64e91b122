"""The network against tensors that the published implementation computed, narrow and random.

Every stored tensor is compared: what lies inside the network is read by hooks, in one run for each
number of steps and each task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from unirestore_ros.model import UniRestore
from unirestore_ros.model.published import from_released

PARITY = Path(__file__).parents[3] / "shared" / "reference" / "parity"
DIRECT = PARITY / "direct_128.safetensors"
# From the fixture's README: relative to a tensor's largest value; for a whole call absolute.
RELATIVE_TOLERANCE = 5e-5
WHOLE_CALL_TOLERANCE = 5e-4

TASKS = ("ir", "cls", "seg")
STEPS = (1, 4)

pytestmark = pytest.mark.skipif(not PARITY.is_dir(), reason="needs the parity fixture in ../shared")
Tensors = dict[str, Tensor]


def stored_names() -> list[str]:
    if not DIRECT.is_file():
        return []
    with safe_open(DIRECT, framework="pt") as stream:
        return sorted(set(stream.keys()) - {"image", "noise"})


@pytest.fixture(scope="module")
def net() -> UniRestore:
    return from_released(
        sd_turbo=PARITY / "backbone",
        stage1=PARITY / "unirestore_stage1.ckpt",
        stage2=PARITY / "unirestore_stage2.ckpt",
        null_embedding=PARITY / "null_embedding.safetensors",
    )


@pytest.fixture(scope="module")
def reference() -> Tensors:
    return load_file(DIRECT)


@contextmanager
def recording(module: nn.Module, record: Callable[[tuple[Any, ...], Any], None]) -> Iterator[None]:
    """Call ``record`` with the inputs and the output of each call of ``module``."""
    hook = module.register_forward_hook(lambda _, inputs, output: record(inputs, output))
    try:
        yield
    finally:
        hook.remove()


@pytest.fixture(scope="module")
def computed(net: UniRestore, reference: Tensors) -> Tensors:
    """Our value of every tensor of the direct case, under the fixture's names."""
    with torch.inference_mode():
        found, skips = encoded(net, reference["image"])
        for steps in STEPS:
            found |= denoised(net, found["z0"], reference["noise"], steps)
            for task in TASKS:
                found |= decoded(net, found[f"s{steps}.zt"], skips, steps, task)
    return found


def encoded(net: UniRestore, image: Tensor) -> tuple[Tensors, list[Tensor]]:
    moments: list[Tensor] = []
    with recording(net.autoencoder.vae.quant_conv, lambda _, out: moments.append(out)):
        z0, skips = net.encode(image)
    mean, log_variance = moments[0].chunk(2, dim=1)
    found = {"posterior_mean": mean, "posterior_std": (log_variance / 2).exp(), "z0": z0}
    found |= {f"skip{i}": skip for i, skip in enumerate(skips)}
    for i, gates in enumerate(net.gates(skips)):
        found |= {f"tfa{i}.{field}": value for field, value in gates._asdict().items()}
    return found, skips


def denoised(net: UniRestore, z0: Tensor, noise: Tensor, steps: int) -> Tensors:
    found: Tensors = {}
    latents: list[Tensor] = []

    def record_unet(inputs: tuple[Any, ...], epsilon: Tensor) -> None:
        zt, _, _, maps = inputs
        if not latents:
            found["zt_init"], found["eps_999"] = zt, epsilon
            found.update({f"control{2**i}": control for i, control in enumerate(maps)})
        found[f"s{steps}.{len(latents)}.eps"] = epsilon
        latents.append(zt)

    def record_tuner(i: int) -> Callable[[tuple[Any, ...], Tensor], None]:
        def record(inputs: tuple[Any, ...], tuned: Tensor) -> None:
            found.setdefault(f"unet_skip.{i}", inputs[0])
            found.setdefault(f"unet_skip_tuned.{i}", tuned)

        return record

    with ExitStack() as hooks:
        hooks.enter_context(recording(net.denoiser, record_unet))
        for i, tuner in enumerate(net.denoiser.csc_editors):
            hooks.enter_context(recording(tuner, record_tuner(i)))
        zt = net.denoise(z0, steps, noise)
    found |= {f"s{steps}.{i}.prev": value for i, value in enumerate([*latents[1:], zt])}
    return found | {f"s{steps}.zt": zt}


def decoded(net: UniRestore, zt: Tensor, skips: list[Tensor], steps: int, task: str) -> Tensors:
    found: Tensors = {}

    def record_adapter(name: str) -> Callable[[tuple[Any, ...], Any], None]:
        def record(inputs: tuple[Any, ...], output: Any) -> None:
            found[f"{name}.prompt_in"], found[f"{name}.x"] = inputs[3], output[0]

        return record

    def record_gate(name: str) -> Callable[[tuple[Any, ...], Tensor], None]:
        def record(_: tuple[Any, ...], output: Tensor) -> None:
            found[f"{name}.out_gate"] = output[..., None, None]

        return record

    with ExitStack() as hooks:
        for i, adapter in enumerate(net.tfa):
            name = f"s{steps}.{task}.tfa{i}"
            hooks.enter_context(recording(adapter, record_adapter(name)))
            hooks.enter_context(recording(adapter.out_gate, record_gate(name)))
        found[f"s{steps}.{task}.out"] = net.decode(zt, skips, task)
    return found


@pytest.mark.parametrize("name", stored_names())
def test_every_stored_tensor(computed: Tensors, reference: Tensors, name: str) -> None:
    assert_close(computed[name], reference[name], name)


def assert_close(ours: Tensor, expected: Tensor, name: str) -> None:
    assert ours.shape == expected.shape, name
    worst = (ours - expected).abs().max() / expected.abs().max()
    assert worst <= RELATIVE_TOLERANCE, f"{name}: {worst:.1e} of its largest value"


@pytest.mark.parametrize(
    ("task", "level"), [("ir", 0), ("ir", 1), ("ir", 2), ("cls", 0), ("seg", 0)]
)
@torch.inference_mode()
def test_adapted_features(net: UniRestore, reference: Tensors, task: str, level: int) -> None:
    z0, skips = net.encode(reference["image"])
    zt = net.denoise(z0, noise=reference["noise"])
    name = f"s1.{task}.tfa{level}.x"
    assert_close(net.adapt(zt, skips, task, net.config.tfa.strides[level]), reference[name], name)


@pytest.mark.parametrize(
    ("task", "steps"), [("ir", 1), pytest.param("seg", 4, marks=pytest.mark.slow)]
)
@torch.inference_mode()
def test_whole_call_with_the_size_rule(net: UniRestore, task: str, steps: int) -> None:
    case = load_file(PARITY / "full_300x452.safetensors")
    out = net.restore(case["image"], task, steps, case["noise"])
    assert (out - case[f"s{steps}.{task}.out"]).abs().max() <= WHOLE_CALL_TOLERANCE
