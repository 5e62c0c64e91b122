"""The compiler's list of layers, read: what is counted of a line, and a real list."""

from __future__ import annotations

from pathlib import Path

import pytest

from unirestore_ros.engine.backends import missing_module
from unirestore_ros.engine.backends.tensorrt_versions import RTX
from unirestore_ros.export.layer_list import compiled_list, main, read_layer_list

TINY = Path(__file__).parents[2] / "engines" / "tiny" / "onnxruntime"


def line(name: str, kind: str, reads: str, writes: str) -> str:
    weights = "{ Name: w, Dimensions: [48,48], Strides: [48,1], Datatype: Float }"
    return (
        f"Name: {name}, LayerType: {kind}, Inputs: [ {reads} ], Constants: [ {weights} ], "
        f"Outputs: [ {writes} ], TacticName: t, StreamId: 0, Metadata: "
    )


def tensor(sides: str, kind: str) -> str:
    order = "Strides: [1,1], StrideOrder: [1,0]"
    return f"{{ Name: x, Dimensions: [{sides}], {order}, Datatype: {kind}, Format: (Linear) }}"


def test_bytes_are_those_of_activations() -> None:
    lines = [
        line("__myl_CastAdd_0", "kgen", tensor("1,4,8", "Float"), tensor("1,4,8", "BFloat16")),
        line("__myl_SiluGnor_1", "kgen", tensor("2,3", "BFloat16"), tensor("2,3", "FP8")),
        "Name: __mye1, LayerType: wait, Inputs: [], Constants: [], Outputs: [], EventId: 1",
    ]
    found = read_layer_list(lines)
    assert (found.kernels, found.casts, found.fused_norms) == (2, 1, 1)
    assert found.moved == {"Float": 128, "BFloat16": 64 + 12, "FP8": 6}


@pytest.mark.skipif(missing_module(RTX) is not None, reason="TensorRT for RTX is not installed")
def test_the_list_of_a_graph_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    compiled, lines = compiled_list(TINY / "adapter.onnx", (128, 64), "8.9")
    found = read_layer_list(lines)
    assert 20 < found.kernels < compiled.layers
    assert set(found.moved) == {"Float"} and found.moved["Float"] > 4 * 128 * 64
    assert main([str(TINY / "adapter.onnx"), "--size", "128x64"]) == 0
    assert f"adapter.onnx | {found.kernels} |" in capsys.readouterr().out
