"""Networks that several tests of the build export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch_threads

from unirestore_ros.engine.backends import missing_module
from unirestore_ros.engine.backends.tensorrt_versions import RTX, load_tensorrt
from unirestore_ros.engine.bundle import Bundle
from unirestore_ros.export.bundle import Variant, build
from unirestore_ros.export.compile import RTX_GPUS
from unirestore_ros.export.tensorrt_compile import Compiler
from unirestore_ros.model import UniRestore
from unirestore_ros.model.published import from_released

one_thread = torch_threads.one_thread


@pytest.fixture(scope="module")
def narrow(shared_reference: Path) -> UniRestore:
    """The published architecture, narrow: attention, cross-attention, group norms."""
    parity = shared_reference / "parity"
    return from_released(
        sd_turbo=parity / "backbone",
        stage1=parity / "unirestore_stage1.ckpt",
        stage2=parity / "unirestore_stage2.ckpt",
        null_embedding=parity / "null_embedding.safetensors",
    )


@pytest.fixture(scope="session")
def small_recipe() -> str:
    """A recipe of `tiny` for TensorRT."""
    weights = Path(__file__).parents[2] / "engines" / "weights" / "tiny.safetensors"
    return f"""
model: tiny
weights: {weights}
working_size: [128, 64]
steps: 1
stride: 4
precision: fp16
tasks: [perception, segmentation]
backends: [tensorrt]
"""


@pytest.fixture(scope="session")
def tiny_in_bf16(tmp_path_factory: pytest.TempPathFactory, small_recipe: str) -> Bundle:
    """`tiny` exported for TensorRT in bf16, not compiled: a minute's work, for several tests."""
    recipe = tmp_path_factory.mktemp("tiny_in_bf16") / "small.yaml"
    recipe.write_text(small_recipe)
    return build(recipe, variant=Variant(precision="bf16", measure=False, onnx_only=True))


@pytest.fixture
def check_with_rtx() -> Callable[[Path], None]:
    """Have NVIDIA's compiler judge a graph of the published architecture, where it is installed."""

    def check(onnx_file: Path) -> None:
        if missing_module(RTX) is None:
            compiler = Compiler(load_tensorrt(RTX), ((64, 64), (192, 128), (512, 512)))
            compiler.gpus = RTX_GPUS
            assert compiler.compile(onnx_file).engine.nbytes > 1000

    return check
