"""Norms rewritten for OpenVINO: the same function, in fewer copies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

pytest.importorskip("openvino", reason="only where OpenVINO is installed")

import openvino as ov
from openvino import opset13 as ops

from unirestore_ros.engine.backends.openvino_backend import _Graph
from unirestore_ros.engine.backends.openvino_norms import normalise_where_they_lie
from unirestore_ros.engine.bundle import read_bundle

SHIPPED = Path(__file__).parents[2] / "engines" / "tiny"
TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
SHAPE = (1, 6, 5, 4)
Array = NDArray[np.float32]


def run(graph: ov.Model, *inputs: Array) -> Array:
    """Run a graph of one output in float32."""
    compiled = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    result: Array = compiled(list(inputs))[0]
    return result


def kinds_of(graph: ov.Model) -> list[str]:
    return [node.get_type_name() for node in graph.get_ordered_ops()]


def transposed(node: ov.Node, order: list[int]) -> ov.Node:
    return ops.transpose(node, ops.constant(np.array(order, np.int64)))


def mvn(
    node: ov.Node, axes: list[int], mode: str = "inside_sqrt", variance: bool = True
) -> ov.Node:
    return ops.mvn(node, ops.constant(np.array(axes, np.int64)), variance, 1e-6, mode)


def channels_of(shape: tuple[int, ...], seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(3, 2, shape).astype(np.float32)


@pytest.mark.parametrize("part", ["trunk", "decoder", "decoder_image", "adapter"])
def test_every_norm_of_the_shipped_network_is_rewritten(part: str) -> None:
    path = SHIPPED / "onnxruntime" / f"{part}.onnx"
    exported = [node.op_type for node in onnx.load(path).graph.node]
    graph = ov.Core().read_model(path)
    before = kinds_of(graph)
    count = normalise_where_they_lie(graph)
    assert count == exported.count("LayerNormalization") > 0
    assert before.count("Transpose") - kinds_of(graph).count("Transpose") == 2 * count


def test_the_backend_rewrites_what_it_reads() -> None:
    graph = _Graph(read_bundle(SHIPPED), "adapter", "fp32", 1)
    before = kinds_of(ov.Core().read_model(SHIPPED / "onnxruntime" / "adapter.onnx"))
    assert kinds_of(graph._graph).count("MVN") < before.count("MVN")


def test_the_trunk_gives_the_same_in_float32() -> None:
    frame = np.random.default_rng(5).integers(0, 256, (1, 64, 80, 3)).astype(np.uint8)
    before, after = (ov.Core().read_model(SHIPPED / "onnxruntime" / "trunk.onnx") for _ in range(2))
    normalise_where_they_lie(after)
    made = []
    for graph in (before, after):
        graph.reshape(list(frame.shape))
        options = {"INFERENCE_PRECISION_HINT": "f32"}
        made.append(ov.Core().compile_model(graph, "CPU", options)([frame]))
    for port in before.outputs:
        expected, given = (result[port.any_name] for result in made)
        assert np.abs(given - expected).max() < 1e-3 * np.abs(expected).max(), port.any_name


@pytest.mark.parametrize("affine", [(), ("Multiply",), ("Multiply", "Add"), ("Add", "Multiply")])
def test_scale_and_offset_are_kept_in_their_order(affine: tuple[str, ...]) -> None:
    def graph() -> ov.Model:
        x = ops.parameter(list(SHAPE), np.float32)
        node = mvn(transposed(x, TO_LAST), [-1])
        for seed, name in enumerate(affine):
            step = {"Multiply": ops.multiply, "Add": ops.add}[name]
            node = step(node, ops.constant(channels_of((6,), seed)))
        return ov.Model([transposed(node, TO_FIRST)], [x])

    x, rewritten = channels_of(SHAPE), graph()
    assert normalise_where_they_lie(rewritten) == 1
    assert "Transpose" not in kinds_of(rewritten)
    np.testing.assert_allclose(run(rewritten, x), run(graph(), x), atol=1e-5)


def normalised_over_rows(x: ov.Node) -> list[ov.Node]:
    return [transposed(mvn(transposed(x, TO_LAST), [1]), TO_FIRST)]


def eps_outside(x: ov.Node) -> list[ov.Node]:
    return [transposed(mvn(transposed(x, TO_LAST), [-1], "outside_sqrt"), TO_FIRST)]


def only_centred(x: ov.Node) -> list[ov.Node]:
    return [transposed(mvn(transposed(x, TO_LAST), [-1], variance=False), TO_FIRST)]


def of_half_precision(x: ov.Node) -> list[ov.Node]:
    return [transposed(mvn(transposed(ops.convert(x, "f16"), TO_LAST), [-1]), TO_FIRST)]


def read_twice(x: ov.Node) -> list[ov.Node]:
    node = mvn(transposed(x, TO_LAST), [-1])
    return [transposed(node, TO_FIRST), ops.relu(node)]


def offset_of_every_pixel(x: ov.Node) -> list[ov.Node]:
    offset = ops.constant(channels_of((1, 5, 4, 6)))
    return [transposed(ops.add(mvn(transposed(x, TO_LAST), [-1]), offset), TO_FIRST)]


def another_order_back(x: ov.Node) -> list[ov.Node]:
    return [transposed(mvn(transposed(x, TO_LAST), [-1]), TO_LAST)]


def without_transposes(x: ov.Node) -> list[ov.Node]:
    return [mvn(x, [-1])]


@pytest.mark.parametrize(
    "made",
    [
        normalised_over_rows,
        eps_outside,
        only_centred,
        of_half_precision,
        read_twice,
        offset_of_every_pixel,
        another_order_back,
        without_transposes,
    ],
)
def test_what_is_not_such_a_norm_stays_as_it_is(made: Callable[[ov.Node], list[ov.Node]]) -> None:
    x = ops.parameter(list(SHAPE), np.float32)
    graph = ov.Model(made(x), [x])
    kinds = kinds_of(graph)
    assert normalise_where_they_lie(graph) == 0
    assert kinds_of(graph) == kinds
