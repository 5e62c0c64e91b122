"""What TensorRT's ONNX parser takes, as published, and whether a graph keeps to it.

Source: onnx/onnx-tensorrt, docs/operators.md, of TensorRT 10.1 (96e7811, 17 June 2024; JetPack 6
has 10.3) and of 10.15 (early 2026), for the operators that the exporter of PyTorch uses in networks
like these; where the two differ, what both say. For TensorRT 11 NVIDIA's "ONNX Opset Guide" of 11.x
names opsets 9 to 25 and the same list; its release notes up to 11.5 (18 November 2026) add
operators and take none away. Read in November 2026.

ConvTranspose is listed with BF16, but TensorRT 11.0 finds no kernel for it on a GPU of compute
capability 8.9 (NVIDIA/TensorRT issue 4829, open), so it counts as not taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import onnx
from onnx import TensorProto, helper

OPSETS = range(9, 21)
"""Taken by every version from 10.1 on; 10.15 goes to 24, 11 to 25."""

_FLOATS = frozenset({"FLOAT", "FLOAT16", "BFLOAT16"})
_NUMBERS = _FLOATS | {"INT32", "INT64"}
_ALL = _NUMBERS | {"BOOL"}

OPERATORS: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Div", "Pow", "Neg", "Abs", "Max", "Min", "Mod", "Pad"), _NUMBERS
    ),
    **dict.fromkeys(("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"), _NUMBERS),
    **dict.fromkeys(
        ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "DepthToSpace"), _NUMBERS
    ),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "MaxPool", "Resize"), _FLOATS),
    **dict.fromkeys(("Conv", "Gemm", "MatMul", "Einsum"), _FLOATS),
    "ConvTranspose": _FLOATS - {"BFLOAT16"},
    **dict.fromkeys(("InstanceNormalization", "LayerNormalization"), _FLOATS),
    **dict.fromkeys(("Softmax", "Softplus", "Sigmoid", "Tanh", "Erf"), _FLOATS),
    **dict.fromkeys(("Exp", "Log", "Relu", "Gelu"), _FLOATS),
    **dict.fromkeys(
        ("Sqrt", "Reciprocal", "Round", "Floor", "Ceil", "Clip", "Sin", "Cos"), _FLOATS
    ),
    **dict.fromkeys(("Concat", "Split", "Slice", "Gather", "Expand", "Tile", "Where"), _ALL),
    **dict.fromkeys(("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Shape"), _ALL),
    **dict.fromkeys(("Identity", "Constant"), _ALL),
    "Cast": _ALL | {"UINT8"},
}
"""The types of the tensors that each may read and give; indices and shapes of theirs apart."""

_CONSTANT_INPUTS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"), (1,)),
    **dict.fromkeys(("Squeeze", "Unsqueeze"), (1,)),
}
"""Inputs that must be initializers."""
_DATA_INPUTS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("Reshape", "Expand", "Slice", "Tile", "Gather", "Pad", "Split"), (0,)),
    **dict.fromkeys(("Squeeze", "Unsqueeze", "Resize"), (0,)),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"), (0,)),
    "Where": (1, 2),
}
"""Which inputs are data, for operators that also read indices, axes or conditions."""
_RESIZE: Mapping[str, tuple[str, ...]] = {
    "mode": ("nearest", "linear"),
    "coordinate_transformation_mode": (
        "half_pixel",
        "pytorch_half_pixel",
        "tf_half_pixel_for_nn",
        "asymmetric",
        "align_corners",
    ),
    "nearest_mode": ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
    "keep_aspect_ratio_policy": ("stretch",),
}
_DEFAULTS = {
    "mode": "nearest",
    "coordinate_transformation_mode": "half_pixel",
    "nearest_mode": "round_prefer_floor",
    "keep_aspect_ratio_policy": "stretch",
}


def problems_of(model: onnx.ModelProto) -> list[str]:
    """A line for each thing in the graph that TensorRT's parser does not take."""
    found = []
    for entry in model.opset_import:
        if entry.domain not in ("", "ai.onnx") or entry.version not in OPSETS:
            found.append(f"opset {entry.version} of {entry.domain or 'ai.onnx'}")
    if model.functions:
        found.append("functions of the model's own")
    types = _types_of(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {node.output[0] for node in model.graph.node if node.op_type == "Constant"}
    for node in model.graph.node:
        where = f"{node.op_type} {node.name or node.output[0]}"
        found += [f"{where}: {problem}" for problem in _node_problems(node, types, constants)]
    return found + list(_byte_problems(model, types))


def _types_of(model: onnx.ModelProto) -> dict[str, str]:
    """The exporter notes the type of every tensor; what it left out, onnx infers."""
    graph = model.graph
    noted = {value.name for value in (*graph.input, *graph.output, *graph.value_info)}
    if any(name not in noted for node in graph.node for name in node.output):
        graph = onnx.shape_inference.infer_shapes(model).graph
    types = {
        value.name: TensorProto.DataType.Name(value.type.tensor_type.elem_type)
        for value in (*graph.input, *graph.output, *graph.value_info)
    }
    for tensor in graph.initializer:
        types[tensor.name] = TensorProto.DataType.Name(tensor.data_type)
    return types


def _node_problems(
    node: onnx.NodeProto, types: Mapping[str, str], constants: set[str]
) -> Iterator[str]:
    if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
        yield "the operator is not in the table"
        return
    allowed = OPERATORS[node.op_type]
    data = _DATA_INPUTS.get(node.op_type, range(len(node.input)))
    given = [node.input[i] for i in data if i < len(node.input) and node.input[i]]
    for name in (*given, *(() if node.op_type == "Shape" else node.output)):
        if types.get(name) not in allowed:
            yield f"{name} is {types.get(name, 'of unknown type')}"
    for i in _CONSTANT_INPUTS.get(node.op_type, ()):
        if i < len(node.input) and node.input[i] and node.input[i] not in constants:
            yield f"its input {i} is no constant"
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    yield from _attribute_problems(node, attributes)


def _attribute_problems(node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Iterator[str]:
    if node.op_type == "Resize":
        for name, allowed in _RESIZE.items():
            value = attributes.get(name, _DEFAULTS[name])
            text = value.decode() if isinstance(value, bytes) else value
            if text not in allowed:
                yield f"{name} {text}"
        if attributes.get("antialias"):
            yield "antialias"
        if attributes.get("axes"):
            yield "axes"
    if node.op_type in ("AveragePool", "MaxPool"):
        if any(step != 1 for step in attributes.get("dilations", ())):
            yield "dilations"
        if len(attributes.get("kernel_shape", ())) not in (2, 3):
            yield "pooling over other than 2 or 3 axes"
    if node.op_type in ("LayerNormalization", "MaxPool") and len(node.output) > 1:
        yield "more than its first output"


def _byte_problems(model: onnx.ModelProto, types: Mapping[str, str]) -> Iterator[str]:
    """UINT8 is for inputs and outputs of the network, next to the cast that makes it a number."""
    graph = model.graph
    given, made = {v.name for v in graph.input}, {v.name for v in graph.output}
    for node in graph.node:
        for name in (n for n in node.input if types.get(n) == "UINT8"):
            if name not in given or node.op_type != "Cast":
                yield f"{node.op_type}: reads the bytes {name}"
        for name in (n for n in node.output if types.get(n) == "UINT8"):
            if name not in made or node.op_type != "Cast":
                yield f"{node.op_type}: makes the bytes {name}"
