"""Round convolutions to 8 bits: in PyTorch, and in an ONNX graph by QuantizeLinear nodes.

A scale takes the largest value to 127 in INT8 and to 448 in FP8 (E4M3); zero stays zero. An input
has one scale, weights have one for each output channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

Scales = Mapping[str, float]
"""By convolution: what a step of its input (int8), or 1.0 of it (fp8), stands for."""
LARGEST = {"int8": 127.0, "fp8": 448.0}
"""By format, the value that stands for the largest seen."""
_ONNX_TYPES = {"int8": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}
_FRACTIONS = np.linspace(1.0, 0.3, 15)
"""Shares of the largest value seen at which an input may be clipped."""


def rounded(values: Tensor, scale: float | Tensor, kind: str) -> Tensor:
    """Round to a format and back; what is out of its range is clipped. Any shape, float32."""
    return _stored(values, scale, kind).float() * scale


def _stored(values: Tensor, scale: float | Tensor, kind: str) -> Tensor:
    if kind == "int8":
        return (values / scale).round().clamp(-128, 127).to(torch.int8)
    return (values / scale).clamp(-448, 448).to(torch.float8_e4m3fn)


def weight_scales(weight: Tensor, kind: str) -> Tensor:
    """Return the scales (out, 1, 1, 1) of weights (out, in, h, w)."""
    return weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12) / LARGEST[kind]


def fitting_scale(sample: Tensor, kind: str) -> float:
    """Return the scale that rounds a sample of values (n,) with the least mean square error."""
    most = max(float(sample.abs().max()), 1e-12)
    scales = [most * float(share) / LARGEST[kind] for share in _FRACTIONS]
    errors = [float((rounded(sample, scale, kind) - sample).square().mean()) for scale in scales]
    return scales[int(np.argmin(errors))]


def write_rounded(graph_file: Path, out: Path, scales: Scales, kind: str) -> int:
    """Copy a part's graph with the convolutions of ``scales`` in 8 bits; returns how many."""
    model = onnx.load(graph_file)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes, count = [], 0
    for node in graph.node:
        name = _module_of(node.input[1]) if node.op_type == "Conv" else ""
        if name in scales:
            weight = weights.pop(node.input[1])
            nodes += _rounded_input(graph, node, scales[name], kind, weight.data_type)
            nodes.append(_rounded_weight(graph, node, weight, kind))
            count += 1
        nodes.append(node)
    graph.ClearField("node")
    graph.node.extend(nodes)
    onnx.save(model, out, save_as_external_data=True, location=out.name + ".data")
    return count


def _module_of(weight_name: str) -> str:
    """part.network.autoencoder.conv_in.module.weight -> autoencoder.conv_in"""
    return weight_name.removeprefix("part.network.").removesuffix(".weight").replace(".module", "")


def _rounded_input(
    graph: onnx.GraphProto, node: onnx.NodeProto, scale: float, kind: str, data_type: int
) -> list[onnx.NodeProto]:
    """Write QuantizeLinear and DequantizeLinear before the node's input."""
    prefix = f"{node.name}/input"
    names = [f"{prefix}/scale", f"{prefix}/zero"]
    graph.initializer.append(_tensor(torch.tensor(scale), names[0], data_type))
    graph.initializer.append(helper.make_tensor(names[1], _ONNX_TYPES[kind], [], b"\0", raw=True))
    source, node.input[0] = node.input[0], f"{prefix}/restored"
    return [
        helper.make_node("QuantizeLinear", [source, *names], [f"{prefix}/8bit"], f"{prefix}/q"),
        helper.make_node(
            "DequantizeLinear", [f"{prefix}/8bit", *names], [node.input[0]], f"{prefix}/dq"
        ),
    ]


def _rounded_weight(
    graph: onnx.GraphProto, node: onnx.NodeProto, weight: TensorProto, kind: str
) -> onnx.NodeProto:
    """Store the node's weights in 8 bits and write DequantizeLinear behind them."""
    values = torch.from_numpy(numpy_helper.to_array(weight).astype(np.float32))
    scales = weight_scales(values, kind)
    stored = _stored(values, scales, kind).view(torch.uint8).numpy().tobytes()
    prefix = f"{node.name}/weight"
    graph.initializer.remove(weight)
    graph.initializer.append(
        helper.make_tensor(f"{prefix}/8bit", _ONNX_TYPES[kind], weight.dims, stored, raw=True)
    )
    graph.initializer.append(_tensor(scales.flatten(), f"{prefix}/scale", weight.data_type))
    zero = b"\0" * int(weight.dims[0])
    graph.initializer.append(
        helper.make_tensor(f"{prefix}/zero", _ONNX_TYPES[kind], weight.dims[:1], zero, raw=True)
    )
    node.input[1] = f"{prefix}/restored"
    names = [f"{prefix}/8bit", f"{prefix}/scale", f"{prefix}/zero"]
    return helper.make_node("DequantizeLinear", names, [node.input[1]], f"{prefix}/dq", axis=0)


def _tensor(values: Tensor, name: str, data_type: int) -> TensorProto:
    """Make a constant of float32 or bfloat16, as the graph's weights are."""
    kind = torch.bfloat16 if data_type == TensorProto.BFLOAT16 else torch.float32
    content = (
        values.to(kind).contiguous().view(torch.uint8)
        if values.ndim
        else (values.to(kind)[None].view(torch.uint8))
    )
    return helper.make_tensor(name, data_type, values.shape, content.numpy().tobytes(), raw=True)
