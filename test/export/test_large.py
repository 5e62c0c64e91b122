"""The published size, with random weights, through NVIDIA's compiler: minutes and 16 GB of memory.

`python -m pytest -m large -s` runs it and prints what docs/tensorrt.md quotes; `make test` leaves
it out.
"""

from __future__ import annotations

import dataclasses
import resource
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from unirestore_ros.engine.backends import missing_module
from unirestore_ros.engine.backends.tensorrt_versions import RTX, load_tensorrt
from unirestore_ros.engine.manifest import MAX_CHANNELS, PARTS
from unirestore_ros.engine.working_size import LARGEST
from unirestore_ros.export.compile import RTX_GPUS
from unirestore_ros.export.export import exported, save_onnx
from unirestore_ros.export.plan import Plan
from unirestore_ros.export.recipe import read_recipe
from unirestore_ros.export.tensorrt_compile import Compiler
from unirestore_ros.model import SD_TURBO
from unirestore_ros.model.weights import random_network

ENGINES = Path(__file__).parents[2] / "engines"
SIZE = (512, 512)


def plan_with_random_weights() -> Plan:
    recipe = dataclasses.replace(read_recipe(ENGINES / "sd-turbo.yaml"), backends=(RTX,))
    plan = Plan(random_network(SD_TURBO), recipe)
    features = SD_TURBO.tfa.feature_channels[1]
    plan.projection = nn.Conv2d(features, MAX_CHANNELS, 1).requires_grad_(False)
    return plan


@pytest.mark.large
@pytest.mark.skipif(missing_module(RTX) is not None, reason="TensorRT for RTX is not installed")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_published_size_compiles(tmp_path: Path, precision: str) -> None:
    plan = plan_with_random_weights()
    sample = plan.sample(plan.part("trunk", precision))
    for name in PARTS:
        start = time.process_time()
        part = plan.part(name, precision)
        program = exported(part, sample, SD_TURBO.multiple)
        save_onnx({name: program}, tmp_path / name, {name: part})
        del program
        exporting, start = time.process_time() - start, time.process_time()
        compiler = Compiler(load_tensorrt(RTX), (SIZE, SIZE, LARGEST))
        compiler.gpus = RTX_GPUS
        compiled = compiler.compile(tmp_path / name / f"{name}.onnx")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"\n{name} {precision}: {compiled}; processor seconds: export {exporting:.0f}, compile "
            f"{time.process_time() - start:.0f}; {peak:.1f} GB so far"
        )
        assert compiled.engine.nbytes > 10 << 20


@pytest.mark.large
def test_the_sample_is_traced_and_not_run() -> None:
    """Half precision on a CPU takes a quarter of an hour for one frame of this size."""
    plan = plan_with_random_weights()
    sample = plan.sample(plan.part("trunk", "fp16"))
    assert sample["skip0"].dtype == torch.float16 and sample["skip0"].shape[2:] == (256, 256)
