"""The graphs given to TensorRT keep to its published operators, and compute what the network does.

No TensorRT is needed. The published architecture stands in narrow, by those of its modules that
`tiny` lacks: attention, cross-attention, group norms in a U-Net of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper

from unirestore_ros.engine import BundleError
from unirestore_ros.engine.backends.cuda_driver import CudaError, device
from unirestore_ros.engine.manifest import BackendInfo
from unirestore_ros.export.bundle import Variant, build
from unirestore_ros.export.export import exported_parts, save_onnx
from unirestore_ros.export.parts import Part, Spatial
from unirestore_ros.export.plan import Plan
from unirestore_ros.export.precision import DTYPES
from unirestore_ros.export.recipe import Recipe
from unirestore_ros.export.tensorrt_operators import problems_of
from unirestore_ros.model import UniRestore

ENGINES = Path(__file__).parents[2] / "engines"
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
    """What the published network has and `tiny` has not, on one latent."""

    inputs = ("z0",)
    outputs = ("control", "state", "stem")
    spatial: Mapping[str, Spatial] = {"z0": Spatial(2, 8), "stem": Spatial(2, 8)}

    def __init__(self, network: UniRestore, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, z0: torch.Tensor) -> tuple[torch.Tensor, ...]:
        net, unet = self.network, self.network.denoiser.unet
        t = torch.full((1,), 999)
        embedding = unet.time_embedding(unet.time_proj(t).to(z0.dtype))
        state, _ = unet.down_blocks[0](
            unet.conv_in(z0), temb=embedding, encoder_hidden_states=net.null_embedding
        )
        control = net.controller(z0, t)[-1]
        return control, state, net.autoencoder.from_latent(z0)


def graph_of(parts: Mapping[str, Part], given: Mapping[str, torch.Tensor], folder: Path) -> None:
    save_onnx(exported_parts(parts, given, 64), folder, parts, check=problems_of)


RECIPE = f"""
model: tiny
weights: {ENGINES / "weights" / "tiny.safetensors"}
working_size: [128, 64]
steps: 1
stride: 4
precision: fp16
tasks: [perception, segmentation]
backends: [tensorrt]
"""


@pytest.mark.slow
def test_an_export_of_tiny_keeps_to_what_tensorrt_takes(tmp_path: Path) -> None:
    """All parts. A graph with anything else would be refused by the build."""
    recipe = tmp_path / "small.yaml"
    recipe.write_text(RECIPE)
    bundle = build(recipe, variant=Variant(precision="bf16", measure=False, onnx_only=True))
    manifest = bundle.manifest
    assert manifest.backends == {"tensorrt": BackendInfo(None)}
    assert manifest.precision == dict.fromkeys(("trunk", "decoder", "adapter"), "bf16")
    assert manifest.tasks == ("perception", "segmentation")
    trunk = onnx.load(bundle.folder / "tensorrt" / "trunk.onnx")
    assert problems_of(trunk) == []
    decoder = onnx.load(bundle.folder / "tensorrt" / "decoder.onnx")
    assert "ConvTranspose" not in {node.op_type for node in decoder.graph.node}
    types = {
        value.name: TensorProto.DataType.Name(value.type.tensor_type.elem_type)
        for value in trunk.graph.output
    }
    assert types["skip0"] == "BFLOAT16"
    assert types["tfa0_info"] == "FLOAT"
    assert [value.name for value in trunk.graph.input] == ["frame"]


def test_compiling_where_there_is_no_gpu_is_refused_before_the_export(tmp_path: Path) -> None:
    try:
        device(0)
        pytest.skip("there is a CUDA device")
    except CudaError:
        pass
    recipe = tmp_path / "small.yaml"
    recipe.write_text(RECIPE)
    with pytest.raises(BundleError, match=r"there is no NVIDIA driver .*; fix: --onnx-only"):
        build(recipe)
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_attention_in_half_keeps_to_what_tensorrt_takes(narrow: UniRestore, tmp_path: Path) -> None:
    network = plan_of(narrow).part("trunk", "bf16").network
    part = Attentive(network, DTYPES["bf16"]).eval()
    graph_of({"attentive": part}, {"z0": torch.randn(1, 4, 16, 24)}, tmp_path / "graphs")
    graph = onnx.load(tmp_path / "graphs" / "attentive.onnx").graph
    types = {v.name: v.type.tensor_type.elem_type for v in graph.value_info}
    softmax = [node.input[0] for node in graph.node if node.op_type == "Softmax"]
    normalised = [n.input[0] for n in graph.node if n.op_type.endswith("Normalization")]
    products = [node.input[0] for node in graph.node if node.op_type == "MatMul"]
    assert len(softmax) >= 4 and len(normalised) >= 10 and len(products) >= 8
    assert {types[name] for name in (*softmax, *normalised)} == {TensorProto.FLOAT}
    assert {types[name] for name in products} == {TensorProto.BFLOAT16}


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


def graph(
    nodes: list[onnx.NodeProto], kind: int, made: int | None = None, opset: int = 20
) -> onnx.ModelProto:
    shape = [1, 3, 8, 8]
    body = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", made or kind, None)],
        [helper.make_tensor("sizes", TensorProto.INT64, [4], [1, 3, 16, 16])],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)])


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (graph([helper.make_node("Det", ["x"], ["y"])], TensorProto.FLOAT), "not in the table"),
        (graph([helper.make_node("Relu", ["x"], ["y"])], TensorProto.DOUBLE), "x is DOUBLE"),
        (graph([helper.make_node("Sigmoid", ["x"], ["y"])], TensorProto.INT32), "x is INT32"),
        (
            graph([helper.make_node("ConvTranspose", ["x", "x"], ["y"])], TensorProto.BFLOAT16),
            "x is BFLOAT16",
        ),
        (
            graph([helper.make_node("Transpose", ["x"], ["y"])], TensorProto.UINT8),
            "reads the bytes x",
        ),
        (
            graph(
                [
                    helper.make_node("Cast", ["x"], ["b"], to=TensorProto.UINT8),
                    helper.make_node("Identity", ["b"], ["y"]),
                ],
                TensorProto.FLOAT,
                TensorProto.UINT8,
            ),
            "makes the bytes b",
        ),
        (
            graph(
                [helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="cubic")],
                TensorProto.FLOAT,
            ),
            "mode cubic",
        ),
        (
            graph(
                [
                    helper.make_node(
                        "Resize", ["x", "", "", "sizes"], ["y"], mode="linear", antialias=1
                    )
                ],
                TensorProto.FLOAT,
            ),
            "antialias",
        ),
        (
            graph([helper.make_node("Relu", ["x"], ["y"])], TensorProto.FLOAT, opset=21),
            "opset 21",
        ),
    ],
)
def test_what_tensorrt_does_not_take_is_found(model: onnx.ModelProto, problem: str) -> None:
    assert any(problem in line for line in problems_of(model)), problems_of(model)


def test_bytes_beside_their_casts_are_taken() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Resize", ["f", "", "", "sizes"], ["r"], mode="linear"),
        helper.make_node("Cast", ["r"], ["y"], to=TensorProto.UINT8),
    ]
    assert problems_of(graph(nodes, TensorProto.UINT8)) == []
