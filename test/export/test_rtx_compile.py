"""NVIDIA's own compiler judges the graphs: TensorRT for RTX compiles on a machine without a GPU.

What comes out runs on a card only. `tiny` is the shipped graphs in float32, an export in bf16, and
that export retyped to fp16, which differs from one in fp16 in nothing but the types. The published
architecture stands in narrow, by its modules that `tiny` lacks.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from unirestore_ros.engine.backends import missing_module
from unirestore_ros.engine.backends.tensorrt_versions import RTX, load_tensorrt
from unirestore_ros.engine.bundle import Bundle, read_bundle
from unirestore_ros.engine.manifest import PARTS
from unirestore_ros.engine.working_size import Size
from unirestore_ros.export.compile import RTX_GPUS
from unirestore_ros.export.tensorrt_compile import Compiled, CompileError, Compiler

pytestmark = pytest.mark.skipif(
    missing_module(RTX) is not None, reason="TensorRT for RTX is not installed (x86-64 only)"
)
TINY = Path(__file__).parents[2] / "engines" / "tiny"
ANOTHER_SIZE = (640, 272)
Sizes = tuple[Size, Size, Size]


def compiler(sizes: Sizes, *gpus: str) -> Compiler:
    made = Compiler(load_tensorrt(RTX), sizes)
    made.gpus = gpus or RTX_GPUS
    return made


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    """Lines on what was compiled; shown with `pytest -s`."""
    lines: list[str] = []
    yield lines
    print("\n" + "\n".join(lines))


def note(table: list[str], what: str, compiled: Compiled) -> None:
    assert compiled.engine.nbytes > 1000
    table.append(f"{what:<28}{compiled}")


@pytest.fixture(scope="module")
def folders(tiny_in_bf16: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The graphs of `tiny` by precision."""
    bf16, fp16 = tiny_in_bf16.folder / "tensorrt", tmp_path_factory.mktemp("fp16")
    for part in PARTS:
        onnx.save(in_fp16(onnx.load(bf16 / f"{part}.onnx")), fp16 / f"{part}.onnx")
    return {"fp32": TINY / "onnxruntime", "bf16": bf16, "fp16": fp16}


def in_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph in bf16 with fp16 in its place."""
    old, new, graph = TensorProto.BFLOAT16, TensorProto.FLOAT16, model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == old:
            value.type.tensor_type.elem_type = new
    constants = [a.t for node in graph.node for a in node.attribute if a.HasField("t")]
    for tensor in (*graph.initializer, *constants):
        if tensor.data_type == old:
            values = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for attribute in (a for node in graph.node for a in node.attribute):
        if attribute.name in ("to", "dtype") and attribute.i == old:
            attribute.i = new
    return model


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_tiny_compiles_for_every_working_size(
    folders: dict[str, Path], table: list[str], precision: str
) -> None:
    """One engine for all sizes and for cards of three families, as `build` makes it."""
    sizes = read_bundle(TINY).manifest.sizes.extremes()
    assert (sizes[0], sizes[2]) == ((64, 64), (832, 832))
    for part in PARTS:
        compiled = compiler(sizes).compile(folders[precision] / f"{part}.onnx")
        note(table, f"{part} {precision}", compiled)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_tiny_compiles_for_one_size_alone(
    folders: dict[str, Path], table: list[str], precision: str
) -> None:
    """As a recipe narrows it."""
    for part in PARTS:
        onnx_file = folders[precision] / f"{part}.onnx"
        compiled = compiler((ANOTHER_SIZE,) * 3, "8.9").compile(onnx_file)
        note(table, f"{part} {precision} {ANOTHER_SIZE[0]}x{ANOTHER_SIZE[1]}", compiled)


def planted(kind: int, *nodes: onnx.NodeProto) -> onnx.ModelProto:
    """A graph of a few nodes from x to y."""
    body = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", kind, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("y", kind, None)],
        [helper.make_tensor("w", kind, [4, 4, 4, 4], [1] * 256)],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize(
    ("model", "gpu", "said"),
    [
        (
            planted(
                TensorProto.BFLOAT16,
                helper.make_node("Relu", ["x"], ["r"], name="sound"),
                helper.make_node("ConvTranspose", ["r", "w"], ["y"], name="planted"),
            ),
            "8.9",
            "node planted: DECONVOLUTION of BF16, giving BF16",
        ),
        (
            planted(TensorProto.INT32, helper.make_node("Sigmoid", ["x"], ["y"], name="planted")),
            "8.9",
            "node 0 planted (Sigmoid): .*unsupported input type of INT32",
        ),
        (
            planted(TensorProto.FLOAT, helper.make_node("Det", ["x"], ["y"], name="planted")),
            "8.9",
            r"node 0 planted \(Det\): .*UNSUPPORTED_NODE",
        ),
        (
            planted(TensorProto.BFLOAT16, helper.make_node("Relu", ["x"], ["y"], name="planted")),
            "7.5",
            "Cannot compile for target.* sm75, because the model contains .*b16",
        ),
    ],
)
def test_what_the_compiler_refuses_is_named(
    tmp_path: Path, model: onnx.ModelProto, gpu: str, said: str
) -> None:
    onnx.save(model, tmp_path / "planted.onnx")
    with pytest.raises(CompileError, match=r"TensorRT for RTX .* planted\.onnx") as caught:
        compiler(((64, 64),) * 3, gpu).compile(tmp_path / "planted.onnx")
    caught.match(said.replace("(Sigmoid)", r"\(Sigmoid\)"))


# A builder in a cycle of garbage, as an exception's traceback makes one, and a message whose
# handling sets off a collection.
COMPILES_BESIDE_GARBAGE = """
import gc, logging, pathlib, sys
from unirestore_ros.engine.backends.tensorrt_versions import RTX, load_tensorrt
from unirestore_ros.export.tensorrt_compile import Compiler

class Collecting(logging.Handler):
    def emit(self, record):
        gc.set_threshold(1)
        [[] for _ in range(9)]

api = load_tensorrt(RTX)
compiler = Compiler(api, ((64, 64),) * 3)
compiler.gpus = ["8.9"]
logger = api.logger(lambda severity, message: None)
log = logging.getLogger("unirestore_ros.export.tensorrt_compile")
log.setLevel(logging.DEBUG)
log.addHandler(Collecting())
garbage = [api.module.Builder(logger)]
garbage.append(garbage)
del garbage
assert compiler.compile(pathlib.Path(sys.argv[1])).layers
"""


def test_garbage_of_an_earlier_compilation_does_not_stop_the_next(tmp_path: Path) -> None:
    """Its end waited for a lock that TensorRT holds while it logs."""
    node = helper.make_node("Relu", ["x"], ["y"])
    onnx.save(planted(TensorProto.FLOAT, node), tmp_path / "sound.onnx")
    script = [sys.executable, "-c", COMPILES_BESIDE_GARBAGE, str(tmp_path / "sound.onnx")]
    subprocess.run(script, check=True, timeout=180)


def test_tf32_is_off(tmp_path: Path) -> None:
    """It is on unless cleared: a product in float32 would have the digits of a half."""
    api = load_tensorrt(RTX)
    builder = api.module.Builder(api.logger(lambda severity, message: None))
    flag = api.module.BuilderFlag.TF32
    assert builder.create_builder_config().get_flag(flag)
    network = builder.create_network(api.network_flags())
    assert not compiler(((64, 64),) * 3)._configured(builder, network).get_flag(flag)
