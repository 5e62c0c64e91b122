"""The graphs given to TensorRT have the types they should, and compute what the network does.

No TensorRT is needed. The published architecture stands in narrow, by those of its modules that
`tiny` lacks: attention, cross-attention, group norms in a U-Net of transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto

from unirestore_ros.engine import BundleError
from unirestore_ros.engine.backends.cuda_driver import CudaError, device
from unirestore_ros.engine.bundle import Bundle
from unirestore_ros.engine.manifest import BackendInfo
from unirestore_ros.export.bundle import build
from unirestore_ros.export.export import exported_parts, save_onnx
from unirestore_ros.export.parts import Part, Spatial
from unirestore_ros.export.plan import Plan
from unirestore_ros.export.precision import DTYPES
from unirestore_ros.export.recipe import Recipe
from unirestore_ros.model import UniRestore

WORKING = (128, 64)


def plan_of(network: UniRestore) -> Plan:
    recipe = Recipe(
        name="small",
        file=Path("engines/small.yaml"),
        weights=Path("none"),
        working_size=WORKING,
        steps=1,
        stride=4,
        backends=("tensorrt",),
    )
    return Plan(network, recipe)


class Attentive(Part):
    """What the published network has and `tiny` has not, on one latent: a block of the U-Net, one
    of the Controller with what it ends in, and the middle of the autoencoder."""

    inputs = ("z0",)
    outputs = ("control", "state", "stem")
    spatial: Mapping[str, Spatial] = {"z0": Spatial(2, 8), "stem": Spatial(2, 8)}

    def __init__(self, network: UniRestore, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, z0: torch.Tensor) -> tuple[torch.Tensor, ...]:
        net, unet, controller = self.network, self.network.denoiser.unet, self.network.controller
        t = torch.full((1,), 999)
        embedding = unet.time_embedding(unet.time_proj(t).to(z0.dtype))
        state, _ = unet.down_blocks[0](
            unet.conv_in(z0), temb=embedding, encoder_hidden_states=net.null_embedding
        )
        embedding = controller.time_embedding(controller.time_proj(t).to(z0.dtype))
        _, states = controller.down_blocks[0](controller.conv_in(z0), embedding)
        control = controller.fea_tran[0](states[-2], embedding)
        return control, state, net.autoencoder.from_latent(z0)


def graph_of(parts: Mapping[str, Part], given: Mapping[str, torch.Tensor], folder: Path) -> None:
    save_onnx(exported_parts(parts, given, 64), folder, parts)


@pytest.mark.slow
def test_an_export_of_tiny_is_in_half_where_it_may_be(tiny_in_bf16: Bundle) -> None:
    bundle = tiny_in_bf16
    manifest = bundle.manifest
    assert manifest.backends == {"tensorrt": BackendInfo(None)}
    assert manifest.precision == dict.fromkeys(("trunk", "decoder", "adapter"), "bf16")
    assert manifest.tasks == ("perception", "segmentation")
    trunk = onnx.load(bundle.folder / "tensorrt" / "trunk.onnx")
    decoder = onnx.load(bundle.folder / "tensorrt" / "decoder.onnx")
    assert "ConvTranspose" not in {node.op_type for node in decoder.graph.node}
    types = {
        value.name: TensorProto.DataType.Name(value.type.tensor_type.elem_type)
        for value in trunk.graph.output
    }
    assert types["skip0"] == "BFLOAT16"
    assert types["tfa0_info"] == "FLOAT"
    assert [value.name for value in trunk.graph.input] == ["frame"]


def test_compiling_where_there_is_no_gpu_is_refused_before_the_export(
    tmp_path: Path, small_recipe: str
) -> None:
    try:
        device(0)
        pytest.skip("there is a CUDA device")
    except CudaError:
        pass
    recipe = tmp_path / "small.yaml"
    recipe.write_text(small_recipe)
    with pytest.raises(BundleError, match=r"there is no NVIDIA driver .*; fix: --onnx-only"):
        build(recipe)
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_attention_in_half_keeps_softmax_and_layer_norms_in_float32(
    narrow: UniRestore, tmp_path: Path, check_with_rtx: Callable[[Path], None]
) -> None:
    network = plan_of(narrow).part("trunk", "bf16").network
    part = Attentive(network, DTYPES["bf16"]).eval()
    graph_of({"attentive": part}, {"z0": torch.randn(1, 4, 16, 24)}, tmp_path / "graphs")
    check_with_rtx(tmp_path / "graphs" / "attentive.onnx")
    graph = onnx.load(tmp_path / "graphs" / "attentive.onnx").graph
    types = {v.name: v.type.tensor_type.elem_type for v in graph.value_info}
    softmax = [node.input[0] for node in graph.node if node.op_type == "Softmax"]
    layers = [n.input[0] for n in graph.node if n.op_type == "LayerNormalization"]
    groups = [n.input[0] for n in graph.node if n.op_type == "InstanceNormalization"]
    products = [node.input[0] for node in graph.node if node.op_type == "MatMul"]
    assert len(softmax) >= 4 and len(layers) >= 3 and len(groups) >= 7 and len(products) >= 8
    assert {types[name] for name in (*softmax, *layers)} == {TensorProto.FLOAT}
    assert {types[name] for name in (*groups, *products)} == {TensorProto.BFLOAT16}


@pytest.mark.slow
def test_a_narrow_adapter_of_the_published_size_compiles(
    narrow: UniRestore, tmp_path: Path, check_with_rtx: Callable[[Path], None]
) -> None:
    """Up-sampling and residual blocks of its decoder, and adapters, in bf16."""
    plan = plan_of(narrow)
    sample = plan.sample(plan.part("trunk", "bf16"))
    graph_of({"adapter": plan.part("adapter", "bf16")}, sample, tmp_path / "graphs")
    check_with_rtx(tmp_path / "graphs" / "adapter.onnx")


@torch.inference_mode()
def test_the_graph_for_tensorrt_computes_what_the_network_does(
    narrow: UniRestore, tmp_path: Path
) -> None:
    """In fp32, in ONNX Runtime; weights beside the graph, as they are past 2 GB."""
    network = plan_of(narrow).part("trunk", "fp32").network
    part = Attentive(network, torch.float32).eval()
    z0 = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(0))
    parts = {"attentive": part}
    save_onnx(exported_parts(parts, {"z0": z0}, 64), tmp_path / "graphs", parts, 1000)
    weights = (tmp_path / "graphs" / "attentive.onnx.data").stat()
    assert weights.st_size > 100_000 and weights.st_mode & 0o044 == 0o044
    session = ort.InferenceSession(str(tmp_path / "graphs" / "attentive.onnx"))
    plain = Attentive(narrow, torch.float32)
    for latent in (z0, z0[..., :8, :16]):  # another size than that of the export
        made = session.run(None, {"z0": latent.numpy()})
        for ours, expected in zip(made, plain(latent), strict=True):
            scale = np.abs(expected.numpy()).max()
            np.testing.assert_allclose(ours / scale, expected.numpy() / scale, atol=2e-5)
