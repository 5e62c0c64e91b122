"""Half precision: where it is, how far from fp32 it lands, and what is kept out of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.upsampling import Upsample2D

from unirestore_ros.evaluate.metrics import float_psnr
from unirestore_ros.export.measure import choose_precision, frames_for
from unirestore_ros.export.parts import Part
from unirestore_ros.export.plan import Plan
from unirestore_ros.export.precision import DTYPES
from unirestore_ros.export.recipe import Recipe, RecipeError, check_backends
from unirestore_ros.export.rewrites import (
    ShuffledDoubling,
    ShuffledUpsample,
    TransposedUpsample,
)
from unirestore_ros.model import UniRestore
from unirestore_ros.model.weights import load_weights

ENGINES = Path(__file__).parents[2] / "engines"
SIZE = (128, 64)


def recipe(precision: str = "bf16", stride: int = 4) -> Recipe:
    return Recipe(
        name="small",
        file=Path("engines/small.yaml"),
        weights=ENGINES / "weights" / "tiny.safetensors",
        working_size=SIZE,
        steps=1,
        stride=stride,
        backends=("torch",),
        precision=precision,
    )


@pytest.fixture(scope="module")
def tiny() -> UniRestore:
    return load_weights(ENGINES / "weights" / "tiny.safetensors")


@pytest.mark.parametrize(
    ("precision", "explicit"), [("bf16", True), ("bf16", False), ("fp16", True)]
)
@torch.inference_mode()
def test_tiny_in_half_is_close_to_fp32(tiny: UniRestore, precision: str, explicit: bool) -> None:
    plan = Plan(tiny, recipe())
    frame = torch.from_numpy(frames_for(SIZE, 64, None)[0])[None]
    prompt = plan.prompts["segmentation"][None]
    results = {}
    for name in ("fp32", precision):
        parts = plan.parts(dict.fromkeys(("trunk", "decoder", "adapter"), name), explicit)
        given = dict(zip(parts["trunk"].outputs, parts["trunk"](frame), strict=True))
        given["prompt"] = prompt
        image, gain = parts["decoder"](*(given[n] for n in parts["decoder"].inputs))
        results[name] = (
            image,
            gain,
            parts["adapter"](*(given[n] for n in parts["adapter"].inputs)),
        )
        assert given["skip0"].dtype == given["stem"].dtype == DTYPES[name]
        assert given["tfa0_filter"].dtype == torch.float32
    image, gain, features = results[precision]
    whole_image, whole_gain, whole_features = results["fp32"]
    assert image.dtype == torch.uint8 and features.dtype == gain.dtype == torch.float32
    assert float_psnr(image.numpy(), whole_image.numpy(), 255) >= 45
    assert float_psnr(gain.numpy(), whole_gain.numpy(), 1.0) >= 35
    assert (
        float_psnr(features.numpy(), whole_features.numpy(), float(np.ptp(whole_features.numpy())))
        >= 45
    )


@torch.inference_mode()
def test_a_shuffled_upsampling_is_the_same_function() -> None:
    torch.manual_seed(0)
    conv, x = torch.nn.ConvTranspose2d(5, 3, 2, 2), torch.rand(1, 5, 4, 6)
    torch.testing.assert_close(ShuffledUpsample(conv)(x), conv(x))
    with pytest.raises(ValueError, match=r"kernel \(4, 4\) and stride \(2, 2\)"):
        ShuffledUpsample(torch.nn.ConvTranspose2d(5, 3, 4, 2))


@torch.inference_mode()
def test_a_doubling_is_the_same_function_in_fewer_operations() -> None:
    torch.manual_seed(0)
    upsample, x = Upsample2D(5, use_conv=True, out_channels=3), torch.rand(1, 5, 4, 6)
    transposed = TransposedUpsample(upsample.conv)
    for module in (transposed, ShuffledDoubling(transposed)):
        torch.testing.assert_close(module(x), upsample(x))


@pytest.mark.parametrize(
    ("precision", "kind"), [("bf16", ShuffledDoubling), ("fp16", TransposedUpsample)]
)
def test_upsampling_takes_the_form_that_is_compiled(
    narrow: UniRestore, precision: str, kind: type
) -> None:
    """TensorRT refuses a transposed convolution in bf16."""
    network = Plan(narrow, recipe()).part("trunk", precision).network
    doublings = [m for m in network.modules() if isinstance(m, Upsample2D | kind)]
    assert len(doublings) == 6 and {type(module) for module in doublings} == {kind}


@torch.inference_mode()
def test_the_written_out_attention_is_the_same_function(narrow: UniRestore) -> None:
    plan = Plan(narrow, recipe())
    frame = torch.from_numpy(frames_for(SIZE, 64, None)[1])[None]
    fused, written = (plan.part("trunk", "fp32", explicit)(frame) for explicit in (False, True))
    for ours, theirs in zip(written, fused, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_the_latent_of_the_published_network_stays_in_float32(narrow: UniRestore) -> None:
    """At t = 999 an error in epsilon grows 14.6 times."""
    plan = Plan(narrow, recipe())
    seen = {}
    trunk = plan.part("trunk", "bf16")
    unet, encoder = trunk.network.denoiser.unet, trunk.network.autoencoder.vae
    for name, module in (("z0", encoder.quant_conv), ("epsilon", unet.conv_out)):
        module.register_forward_hook(
            lambda module, given, result, name=name: seen.update({name: result.dtype})
        )
    trunk(torch.zeros(1, *SIZE[::-1], 3, dtype=torch.uint8))
    assert seen == {"z0": torch.float32, "epsilon": torch.float32}


@pytest.mark.parametrize(
    ("precision", "group_norms"), [("bf16", torch.bfloat16), ("fp16", torch.float32)]
)
def test_group_norms_are_in_half_in_bf16_alone(
    narrow: UniRestore, precision: str, group_norms: torch.dtype
) -> None:
    """In fp16 a sum of squares may be too large."""
    network = Plan(narrow, recipe()).part("trunk", precision).network
    found = {
        kind: {m.weight.dtype for m in network.denoiser.unet.mid_block.modules() if type(m) is kind}
        for kind in (torch.nn.GroupNorm, torch.nn.LayerNorm)
    }
    assert found == {torch.nn.GroupNorm: {group_norms}, torch.nn.LayerNorm: {torch.float32}}


def test_a_range_that_fp16_cannot_hold_is_kept_out_of_it(tiny: UniRestore) -> None:
    plan = Plan(tiny, recipe("fp16"))

    def make(part: str, precision: str) -> Part:
        """The adapter's features grow on the way, and shrink again."""
        module = plan.part(part, precision)
        if part == "adapter":
            adapt_from = UniRestore.adapt_from.__get__(module.network)
            module.network.adapt_from = lambda stem, *rest, **options: adapt_from(
                stem * 2e4 / 2e4, *rest, **options
            )
        return module

    prompts = [plan.prompts["perception"][None]]
    measured = choose_precision("fp16", make, prompts, frames_for(SIZE, 64, None)[:1])
    assert measured.precision == {"trunk": "fp16", "decoder": "fp16", "adapter": "bf16"}
    trunk, adapter = (measured.largest[part] or 0.0 for part in ("trunk", "adapter"))
    assert adapter > 8000 > trunk > 1


def test_a_distance_that_is_not_finite_counts_as_none() -> None:
    reference = np.random.default_rng(0).random(4)
    assert float_psnr(reference, reference, 1.0) == float("inf")
    assert float_psnr(reference * float("nan"), reference, 1.0) == -float("inf")


def test_half_precision_for_onnxruntime_is_refused() -> None:
    with pytest.raises(RecipeError, match="ONNX Runtime cannot run it on a CPU"):
        check_backends(dataclasses.replace(recipe(), backends=("torch", "onnxruntime")))
