"""8-bit convolutions: the graph that is compiled computes what PyTorch measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional as F

from unirestore_ros.evaluate.rounding import fitting_scale, rounded, weight_scales, write_rounded


@pytest.mark.parametrize(("kind", "least"), [("int8", 40), ("fp8", 28)])
def test_rounding_keeps_most_of_a_normal_tensor(kind: str, least: float) -> None:
    values = torch.randn(20000, generator=torch.Generator().manual_seed(0))
    scale = fitting_scale(values, kind)
    error = (rounded(values, scale, kind) - values).square().mean()
    assert float(-10 * torch.log10(error)) > least
    if kind == "int8":
        assert rounded(torch.tensor([1e9]), 0.5, kind).item() == 127 * 0.5


def test_an_outlier_is_clipped() -> None:
    values = torch.cat([torch.linspace(-1, 1, 20000), torch.tensor([3.0])])
    assert fitting_scale(values, "int8") < 3 / 127


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_the_graph_rounds_as_pytorch_does(tmp_path: Path, kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(s, generator=generator) for s in ((6, 4, 3, 3), (1, 4, 9, 7)))
    name = "part.network.encoder.conv.module.weight"
    body = helper.make_graph(
        [helper.make_node("Conv", ["x", name], ["y"], "node_conv", pads=[1, 1, 1, 1])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight.numpy(), name)],
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(body, opset_imports=opset, ir_version=9), tmp_path / "plain.onnx")
    out = tmp_path / "rounded.onnx"
    assert write_rounded(tmp_path / "plain.onnx", out, {"another": 1.0}, kind) == 0
    assert write_rounded(tmp_path / "plain.onnx", out, {"encoder.conv": 0.02}, kind) == 1
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(out), options, providers=["CPUExecutionProvider"])
    made = session.run(None, {"x": x.numpy()})[0]
    w8 = rounded(weight, weight_scales(weight, kind), kind)
    expected = F.conv2d(rounded(x, 0.02, kind), w8, padding=1)
    np.testing.assert_allclose(made, expected.numpy(), atol=1e-3)
