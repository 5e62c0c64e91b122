"""A bundle of three small real graphs, whose results are known and which frames can slow or break.

The driver's picture is the negative of the frame, plus a level that is the prompt's; features are
the levels of blocks of pixels, plus the prompt. The first pixel steers: its red is how often the
trunk multiplies two matrices beside it (a matter of milliseconds), its green makes a part fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from unirestore_ros.engine.manifest import PARTS, BackendInfo, Manifest
from unirestore_ros.engine.writing import write_bundle
from unirestore_ros.files import folder_written_beside

WIDTH, HEIGHT, STRIDE, CHANNELS = 64, 48, 8, 3
H, W = HEIGHT // STRIDE, WIDTH // STRIDE
LEVELS = {"perception": 0.0, "segmentation": 10.0, "detection": 20.0}
TRUNK_FAILS, DECODER_FAILS, ADAPTER_FAILS = 255, 254, 253
"""Greens of the first pixel."""
_MATRIX = 384


def expected_image(rgb: NDArray[np.uint8], task: str = "perception") -> NDArray[np.uint8]:
    """RGB (H,W,3) as the miniature restores it."""
    return np.clip(255 - rgb.astype(int) + LEVELS[task], 0, 255).astype(np.uint8)


def expected_features(rgb: NDArray[np.uint8], task: str) -> NDArray[np.float32]:
    """(h,w,3): the mean of each block, plus the prompt's level."""
    height, width = rgb.shape[:2]
    blocks = rgb.reshape(height // STRIDE, STRIDE, width // STRIDE, STRIDE, 3)
    return (blocks.mean(axis=(1, 3)) + LEVELS[task]).astype(np.float32)


def frame(
    work: int = 0, failing: int = 0, seed: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> NDArray[np.uint8]:
    """RGB noise (H,W,3) whose first pixel steers the miniature."""
    rgb = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    rgb[0, 0] = (work, failing, 0)
    return rgb


def write_miniature(
    folder: Path, tasks: Sequence[str] = tuple(LEVELS), size: tuple[int, int] = (WIDTH, HEIGHT)
) -> Path:
    """Write the bundle to ``folder``, whole; returns it."""
    with folder_written_beside(folder) as beside:
        parts = beside / "onnxruntime"
        parts.mkdir()
        _save(parts / "trunk.onnx", _trunk())
        _save(parts / "decoder.onnx", _decoder())
        _save(parts / "adapter.onnx", _adapter())
        prompts = {task: np.full((1, 1), LEVELS[task], np.float32) for task in tasks}
        write_bundle(beside, _manifest(tuple(tasks), size), prompts)
    return folder


def _manifest(tasks: tuple[str, ...], size: tuple[int, int]) -> Manifest:
    return Manifest(
        name="miniature",
        model="tiny",
        recipe="engines/miniature.yaml",
        weights_sha256="ab" * 32,
        steps=1,
        working_size=size,
        shorter_side=None,
        multiple=16,
        least_side=16,
        detail_gain=False,
        strides=(8, 4, 2),
        channels=(CHANNELS, CHANNELS, CHANNELS),
        stride=STRIDE,
        feature_channels=CHANNELS,
        prompt_shape=(1, 1),
        tasks=tasks,
        precision=dict.fromkeys(PARTS, "fp32"),
        largest_activation=dict.fromkeys(PARTS, 1.0),
        backends={"onnxruntime": BackendInfo("1.0")},
        heads={},
    )


Tensor = tuple[str, int, tuple[int | str, ...]]
_IMAGE_SHAPE = (1, "height/1", "width/1", 3)
"""Symbolic sides, by the names that the backends pin."""
Node = tuple[str, str, str, dict[str, object]]
"""Operator, inputs, outputs (names parted by spaces), attributes."""

_CORNER: list[Node] = [
    ("Slice", "frame first second", "corner", {}),
    ("Reshape", "corner flat", "corner_colour", {}),
    ("Cast", "corner_colour", "colour", {"to": TensorProto.INT64}),
]
_FAIL: list[Node] = [
    ("Gather", "colour green", "code", {}),
    ("Equal", "code failing", "fails", {}),
    ("Where", "fails outside inside", "place", {}),
    ("Gather", "table place", "zero", {}),  # there is no such place in the table where it fails
]


def _failing(code: int) -> dict[str, NDArray[np.generic]]:
    return {
        "first": np.array([0, 0, 0, 0]),
        "second": np.array([1, 1, 1, 3]),
        "flat": np.array([3]),
        "green": np.array(1),
        "failing": np.array(code),
        "outside": np.array(7),
        "inside": np.array(0),
        "table": np.zeros(1, np.float32),
    }


def _trunk() -> onnx.GraphProto:
    """Levels as float, after as many products of matrices as the first pixel's red says."""
    constants = {
        **_failing(TRUNK_FAILS),
        "red": np.array(0),
        "true": np.array(True),
        "matrix": np.full((_MATRIX, _MATRIX), 1e-3, np.float32),
        "nought": np.float32(0),
    }
    nodes = [
        *_CORNER,
        *_FAIL,
        ("Gather", "colour red", "times", {}),
        ("Loop", "times true matrix", "worked", {"body": _work()}),
        ("ReduceMean", "worked", "mean", {"keepdims": 0}),
        ("Mul", "mean nought", "nothing", {}),
        ("Cast", "frame", "raw", {"to": TensorProto.FLOAT}),
        ("Add", "raw nothing", "sound", {}),
        ("Add", "sound zero", "levels", {}),
    ]
    frame = ("frame", TensorProto.UINT8, _IMAGE_SHAPE)
    return _graph(nodes, [frame], [("levels", TensorProto.FLOAT, _IMAGE_SHAPE)], constants)


def _work() -> onnx.GraphProto:
    """Body of the loop: multiply once more."""
    square = (TensorProto.FLOAT, (_MATRIX, _MATRIX))
    nodes: list[Node] = [
        ("Identity", "go_on", "still", {}),
        ("MatMul", "state matrix", "next", {}),
    ]
    inputs = [("count", TensorProto.INT64, ()), ("go_on", TensorProto.BOOL, ()), ("state", *square)]
    return _graph(nodes, inputs, [("still", TensorProto.BOOL, ()), ("next", *square)], {})


def _decoder() -> onnx.GraphProto:
    nodes = [
        *_CORNER,
        *_FAIL,
        ("Sub", "white levels", "negative", {}),
        ("ReduceMean", "prompt", "level", {"keepdims": 0}),
        ("Add", "negative level", "shifted", {}),
        ("Add", "shifted zero", "sound", {}),
        ("Clip", "sound black white", "clipped", {}),
        ("Cast", "clipped", "image", {"to": TensorProto.UINT8}),
    ]
    values = {"white": np.float32(255), "black": np.float32(0), **_failing(DECODER_FAILS)}
    image = ("image", TensorProto.UINT8, _IMAGE_SHAPE)
    return _graph(nodes, _part_inputs(), [image], values)


def _adapter() -> onnx.GraphProto:
    pool = {"kernel_shape": [STRIDE] * 2, "strides": [STRIDE] * 2}
    nodes = [
        *_CORNER,
        *_FAIL,
        ("Transpose", "levels", "planes", {"perm": [0, 3, 1, 2]}),
        ("AveragePool", "planes", "means", pool),
        ("Transpose", "means", "rows", {"perm": [0, 2, 3, 1]}),
        ("ReduceMean", "prompt", "level", {"keepdims": 0}),
        ("Add", "rows level", "shifted", {}),
        ("Add", "shifted zero", "features", {}),
    ]
    shape = (1, f"height/{STRIDE}", f"width/{STRIDE}", CHANNELS)
    features = ("features", TensorProto.FLOAT, shape)
    return _graph(nodes, _part_inputs(), [features], _failing(ADAPTER_FAILS))


def _part_inputs() -> list[Tensor]:
    return [
        ("frame", TensorProto.UINT8, _IMAGE_SHAPE),
        ("levels", TensorProto.FLOAT, _IMAGE_SHAPE),
        ("prompt", TensorProto.FLOAT, (1, 1, 1)),
    ]


def _graph(
    nodes: Sequence[Node],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    constants: dict[str, NDArray[np.generic]],
) -> onnx.GraphProto:
    return helper.make_graph(
        [
            helper.make_node(op, i.split(), o.split(), **attributes)
            for op, i, o, attributes in nodes
        ],
        "miniature",
        [helper.make_tensor_value_info(*tensor) for tensor in inputs],
        [helper.make_tensor_value_info(*tensor) for tensor in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )


def _save(path: Path, graph: onnx.GraphProto) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
