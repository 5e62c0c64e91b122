"""A miniature bundle: three real graphs for each backend that is installed here, small enough to be
computed in numpy beside them."""

from __future__ import annotations

import functools
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from unirestore_ros.engine.backends.parts import dimension_sizes
from unirestore_ros.engine.manifest import PARTS, BackendInfo, HeadInfo, Manifest
from unirestore_ros.engine.reference import write_reference
from unirestore_ros.engine.writing import folder_written_beside, write_bundle

if TYPE_CHECKING:
    import torch

WIDTH, HEIGHT, STRIDE, CHANNELS = 64, 48, 4, 8
H, W = HEIGHT // STRIDE, WIDTH // STRIDE
BACKENDS = tuple(name for name in ("onnxruntime", "torch") if importlib.util.find_spec(name))
RUNNABLE = (*BACKENDS, *(["openvino"] if importlib.util.find_spec("openvino") else []))
"""OpenVINO runs what the bundle holds for ONNX Runtime."""
TASKS = ("perception", "segmentation", "detection")
_SIDES, _MAP_SIDES = ("height/1", "width/1"), (f"height/{STRIDE}", f"width/{STRIDE}")
FRAME = ("frame", TensorProto.UINT8, (1, *_SIDES, 3))
WORKING = ("working", TensorProto.FLOAT, (1, *_SIDES, 3))
STEM = ("stem", TensorProto.FLOAT, (1, CHANNELS, *_MAP_SIDES))
GATE = ("gate", TensorProto.FLOAT, (1, 1, CHANNELS))
PROMPT = ("prompt", TensorProto.FLOAT, (1, 1, CHANNELS))
IMAGE = ("image", TensorProto.UINT8, (1, *_SIDES, 3))
FEATURES = ("features", TensorProto.FLOAT, (1, *_MAP_SIDES, CHANNELS))
Tensor = tuple[str, int, tuple[int | str, ...]]

_random = np.random.default_rng(2)
WEIGHT = _random.normal(size=(CHANNELS, 3, 1, 1)).astype(np.float32)
PROMPTS = {
    task: _random.normal(size=(1, CHANNELS)).astype(np.float32)
    for task in (*TASKS, "parking_space")
}


def save_graph(
    path: Path,
    nodes: Sequence[tuple[str, str, str, dict[str, object]]],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    constants: dict[str, NDArray[np.generic]],
) -> None:
    """``nodes``: (operator, inputs, outputs, attributes), names parted by spaces."""
    graph = helper.make_graph(
        [
            helper.make_node(op, i.split(), o.split(), **attributes)
            for op, i, o, attributes in nodes
        ],
        path.stem,
        [helper.make_tensor_value_info(*tensor) for tensor in inputs],
        [helper.make_tensor_value_info(*tensor) for tensor in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def save_trunk(path: Path) -> None:
    nodes = [
        ("Cast", "frame", "float_frame", {"to": TensorProto.FLOAT}),
        ("Div", "float_frame levels", "working", {}),
        ("Transpose", "working", "planes", {"perm": [0, 3, 1, 2]}),
        (
            "AveragePool",
            "planes",
            "pooled",
            {"kernel_shape": [STRIDE] * 2, "strides": [STRIDE] * 2},
        ),
        ("Conv", "pooled weight", "stem", {}),
        ("ReduceMean", "stem", "mean", {"axes": [2, 3], "keepdims": 0}),
        ("Unsqueeze", "mean one", "gate", {}),
        ("Tanh", "gate", "unread", {}),
    ]
    constants = {"levels": np.float32(255), "weight": WEIGHT, "one": np.array([1])}
    unread = ("unread", *GATE[1:])
    save_graph(path, nodes, [FRAME], [WORKING, STEM, GATE, unread], constants)


def save_decoder(path: Path) -> None:
    """It reads the frame itself beside what the trunk made of it."""
    nodes = [
        ("ReduceMean", "prompt", "steer", {"keepdims": 0}),
        ("ReduceMean", "stem", "light", {"keepdims": 0}),
        ("Add", "steer light", "shift", {}),
        ("Mul", "working levels", "restored", {}),
        ("Cast", "frame", "float_frame", {"to": TensorProto.FLOAT}),
        ("Add", "restored float_frame", "twice", {}),
        ("Mul", "twice half", "average", {}),
        ("Mul", "shift gain", "step", {}),
        ("Add", "average step", "bright", {}),
        ("Clip", "bright black white", "clipped", {}),
        ("Round", "clipped", "rounded", {}),
        ("Cast", "rounded", "image", {"to": TensorProto.UINT8}),
    ]
    values = {"levels": 255, "half": 0.5, "gain": 40, "black": 0, "white": 255}
    constants = {name: np.float32(value) for name, value in values.items()}
    save_graph(path, nodes, [STEM, PROMPT, WORKING, FRAME], [IMAGE], constants)


def save_adapter(path: Path) -> None:
    nodes = [
        ("Transpose", "stem", "rows", {"perm": [0, 2, 3, 1]}),
        ("Mul", "prompt gate", "steer", {}),
        ("Unsqueeze", "steer one", "steer_rows", {}),
        ("Add", "rows steer_rows", "features", {}),
    ]
    save_graph(path, nodes, [GATE, STEM, PROMPT], [FEATURES], {"one": np.array([1])})


def expected(
    frame: NDArray[np.uint8], prompt: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The miniature network in numpy: image and features."""
    pooled = (frame / 255.0).reshape(H, STRIDE, W, STRIDE, 3).mean(axis=(1, 3))
    stem = pooled @ WEIGHT[:, :, 0, 0].T
    image = frame + 40 * (prompt.mean() + stem.mean())
    features = stem + prompt[0] * stem.mean(axis=(0, 1))
    return np.rint(image.clip(0, 255)).astype(np.uint8), features.astype(np.float32)


def manifest() -> Manifest:
    return Manifest(
        name="miniature",
        model="tiny",
        recipe="engines/miniature.yaml",
        weights_sha256="ab" * 32,
        steps=1,
        working_size=(WIDTH, HEIGHT),
        shorter_side=None,
        multiple=16,
        least_side=16,
        strides=(8, 4, 2),
        channels=(16, CHANNELS, 4),
        stride=STRIDE,
        feature_channels=CHANNELS,
        prompt_shape=(1, CHANNELS),
        tasks=TASKS,
        detail_gain=False,
        precision=dict.fromkeys(PARTS, "fp32"),
        largest_activation={"trunk": 12.5, "decoder": 3.0, "adapter": None},
        backends={name: BackendInfo("1.0") for name in BACKENDS},
        heads={"segmentation": HeadInfo(STRIDE, ("road", "car"))},
    )


@functools.cache
def exported_with_torch() -> Path:
    """The folder of the three parts as programs of torch.export, made once."""
    import torch

    class Trunk(torch.nn.Module):
        def forward(self, frame: torch.Tensor) -> dict[str, torch.Tensor]:
            working = frame.float() / 255
            pooled = torch.nn.functional.avg_pool2d(working.permute(0, 3, 1, 2), STRIDE)
            stem = torch.nn.functional.conv2d(pooled, torch.from_numpy(WEIGHT))
            gate = stem.mean((2, 3))[:, None]
            return {"working": working, "stem": stem, "gate": gate, "unread": gate.tanh()}

    class Decoder(torch.nn.Module):
        def forward(
            self,
            stem: torch.Tensor,
            prompt: torch.Tensor,
            working: torch.Tensor,
            frame: torch.Tensor,
        ) -> dict[str, torch.Tensor]:
            average = (working * 255 + frame.float()) / 2
            bright = average + 40 * (prompt.mean() + stem.mean())
            return {"image": bright.clamp(0, 255).round().to(torch.uint8)}

    class Adapter(torch.nn.Module):
        def forward(
            self, gate: torch.Tensor, stem: torch.Tensor, prompt: torch.Tensor
        ) -> dict[str, torch.Tensor]:
            return {"features": stem.permute(0, 2, 3, 1) + (prompt * gate)[:, None]}

    folder = Path(tempfile.mkdtemp(prefix="miniature"))
    for part, inputs in (
        (Trunk(), [FRAME]),
        (Decoder(), [STEM, PROMPT, WORKING, FRAME]),
        (Adapter(), [GATE, STEM, PROMPT]),
    ):
        save_program(folder / f"{type(part).__name__.lower()}.pt2", part, inputs)
    return folder


def save_program(path: Path, part: torch.nn.Module, inputs: Sequence[Tensor]) -> None:
    """A module that takes its inputs by name and gives its outputs by name."""
    import torch
    from torch.export import Dim

    rows, columns = Dim("rows", min=2, max=16), Dim("columns", min=2, max=16)
    given, shapes = {}, {}
    for name, kind, shape in inputs:
        dtype = torch.uint8 if kind == TensorProto.UINT8 else torch.float32
        given[name] = torch.zeros(fixed(shape), dtype=dtype)
        shapes[name] = {
            axis: 16 // int(side.partition("/")[2]) * (rows if "height" in side else columns)
            for axis, side in enumerate(shape)
            if isinstance(side, str)
        }
    dynamic = shapes if any(shapes.values()) else None
    program = torch.export.export(part, (), given, dynamic_shapes=dynamic)
    program.example_inputs = None  # as build does: they would be pickled
    torch.export.save(program, path)


def fixed(shape: tuple[int | str, ...]) -> tuple[int, ...]:
    """The shape with symbolic sides as those of a frame of WIDTH x HEIGHT."""
    sides = dimension_sizes((WIDTH, HEIGHT))
    return tuple(side if isinstance(side, int) else sides[side] for side in shape)


def save_parts(folder: Path) -> None:
    if "torch" in BACKENDS:
        shutil.copytree(exported_with_torch(), folder / "torch")
    save_trunk(folder / "onnxruntime" / "trunk.onnx")
    save_decoder(folder / "onnxruntime" / "decoder.onnx")
    save_adapter(folder / "onnxruntime" / "adapter.onnx")
    save_adapter(folder / "heads" / "segmentation.onnx")


def save_reference(folder: Path) -> None:
    """What every bundle with compiled parts has: a frame, and samples of what is made of it."""
    frame = np.random.default_rng(5).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    image, features = expected(frame, PROMPTS[TASKS[0]])
    pooled = (frame / 255.0).reshape(H, STRIDE, W, STRIDE, 3).mean(axis=(1, 3))
    stem = (pooled @ WEIGHT[:, :, 0, 0].T).transpose(2, 0, 1)
    write_reference(folder, frame, {"image": image, "features": features, "stem": stem})


@pytest.fixture(params=RUNNABLE)
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend that can load here."""
    return str(request.param)


@pytest.fixture(scope="session")
def miniature() -> ModuleType:
    """This file: the graphs, their results in numpy, the manifest, the prompts."""
    return sys.modules[__name__]


@pytest.fixture
def bundle_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "engines" / "miniature"
    with folder_written_beside(folder) as beside:
        save_parts(beside)
        write_bundle(beside, manifest(), {task: PROMPTS[task] for task in TASKS})
    return folder


@pytest.fixture
def frame() -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
