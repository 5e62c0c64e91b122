import dataclasses
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from unirestore_ros.engine import BundleError, InferenceError, backends, open_engine
from unirestore_ros.engine.backends import choose_backend, cuda_driver
from unirestore_ros.engine.backends.parts import physical_cores
from unirestore_ros.engine.bundle import Bundle
from unirestore_ros.engine.manifest import BackendInfo
from unirestore_ros.engine.writing import folder_written_beside, write_bundle

Choose = Callable[..., str]


def _has_cuda() -> bool:
    try:
        cuda_driver.device(0)
    except cuda_driver.CudaError:
        return False
    return True


HAS_CUDA = _has_cuda()
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
ON_ONNX = ["onnxruntime", *(["openvino"] if HAS_OPENVINO else [])]
"""The backends that run the graphs of ``onnxruntime/``."""


@pytest.fixture
def choose(miniature: ModuleType, tmp_path: Path) -> Choose:
    def choose(requested: str, *held: str) -> str:
        backends = {name: BackendInfo("1.0") for name in held}
        manifest = dataclasses.replace(miniature.manifest(), backends=backends)
        return choose_backend(Bundle(tmp_path, manifest, {}), requested)

    return choose


def test_auto_takes_the_first_that_runs_here(
    choose: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "has_bfloat16", lambda: False)
    assert choose("auto", "onnxruntime") == "onnxruntime"
    if not HAS_CUDA:
        assert choose("auto", "onnxruntime", "torch", "tensorrt") == "onnxruntime"


def test_auto_takes_openvino_on_a_processor_with_bfloat16(
    choose: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "has_bfloat16", lambda: True)
    assert choose("auto", "onnxruntime") == ("openvino" if HAS_OPENVINO else "onnxruntime")


def test_openvino_runs_what_is_built_for_onnxruntime(choose: Choose) -> None:
    assert choose("openvino", "onnxruntime") == "openvino"


@pytest.mark.skipif(HAS_CUDA, reason="there is a CUDA device, on which auto takes torch")
def test_auto_takes_torch_with_a_cuda_device_only(choose: Choose) -> None:
    with pytest.raises(BundleError) as caught:
        choose("auto", "torch")

    assert "no backend that it is built for runs here: torch: " in str(caught.value)
    assert "build engines/miniature.yaml --backend onnxruntime" in str(caught.value)
    assert choose("torch", "torch") == "torch"


def test_a_backend_that_the_bundle_lacks_is_refused_with_the_command(choose: Choose) -> None:
    with pytest.raises(BundleError) as caught:
        choose("onnxruntime", "tensorrt")

    assert "not built for backend onnxruntime, but for tensorrt" in str(caught.value)
    assert "build engines/miniature.yaml --backend onnxruntime" in str(caught.value)
    with pytest.raises(BundleError, match=r"openvino, but for tensorrt; .* --backend onnxruntime"):
        choose("openvino", "tensorrt")


@pytest.mark.skipif(not shutil.which("gcc"), reason="compiles a stand-in for a driver")
def test_a_driver_without_devices_is_said_so(tmp_path: Path) -> None:
    """What a machine answers that has the driver's library but no GPU."""
    source = """
    int cuInit(int flags) { return 100; }
    int cuGetErrorString(int error, char **text) { *text = "no device"; return 0; }
    """
    library = tmp_path / cuda_driver.LIBRARY
    subprocess.run(
        ["gcc", "-shared", "-x", "c", "-", "-o", str(library)], input=source.encode(), check=True
    )
    script = "from unirestore_ros.engine.backends import cuda_driver; cuda_driver.device(0)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert "CudaError: the CUDA driver answers cuInit with error 100 (no device)" in done.stderr


@pytest.mark.skipif(HAS_CUDA, reason="there is a CUDA device")
def test_a_machine_without_cuda_says_so() -> None:
    with pytest.raises(cuda_driver.CudaError, match=r"no NVIDIA driver|CUDA"):
        cuda_driver.device(0)


@pytest.mark.parametrize("name", ["", "cuda", "ONNXRUNTIME"])
def test_an_unknown_backend_is_refused_by_name(choose: Choose, name: str) -> None:
    with pytest.raises(BundleError, match=f"backend '{name}' is not known"):
        choose(name, "onnxruntime")


Change = Callable[[ModuleType, Path], None]


def _decoder_reads_what_nobody_makes(miniature: ModuleType, folder: Path) -> None:
    depth = ("depth", miniature.IMAGE[1], miniature.fixed(miniature.IMAGE[2]))
    nodes: list[Any] = [("Identity", "depth", "image", {})]
    save(miniature, folder / "decoder.onnx", nodes, [depth, miniature.PROMPT], [miniature.IMAGE])


def _adapter_reads_another_shape(miniature: ModuleType, folder: Path) -> None:
    stem = ("stem", TensorProto.FLOAT, (1, 12, 16, 8))
    nodes: list[Any] = [("Identity", "stem", "features", {})]
    save(miniature, folder / "adapter.onnx", nodes, [stem], [miniature.FEATURES])


def _adapter_gives_another_shape(miniature: ModuleType, folder: Path) -> None:
    nodes: list[Any] = [("Identity", "stem", "features", {})]
    features = ("features", *miniature.STEM[1:])
    save(miniature, folder / "adapter.onnx", nodes, [miniature.STEM], [features])


def _decoder_gives_another_name(miniature: ModuleType, folder: Path) -> None:
    nodes: list[Any] = [("Identity", "frame", "picture", {})]
    picture = ("picture", *miniature.IMAGE[1:])
    save(miniature, folder / "decoder.onnx", nodes, [miniature.FRAME], [picture])


def _trunk_reads_two_things(miniature: ModuleType, folder: Path) -> None:
    nodes: list[Any] = [("Add", "stem gate", "sum", {})]
    kind = miniature.STEM[1], miniature.fixed(miniature.STEM[2])
    inputs = [("stem", *kind), ("gate", *kind)]
    save(miniature, folder / "trunk.onnx", nodes, inputs, [("sum", *kind)])


def _trunk_makes_an_open_shape(miniature: ModuleType, folder: Path) -> None:
    nodes: list[Any] = [("NonZero", "frame", "stem", {})]
    stem = ("stem", TensorProto.INT64, (4, "found"))
    save(miniature, folder / "trunk.onnx", nodes, [miniature.FRAME], [stem])


def save(miniature: ModuleType, path: Path, nodes: list, inputs: list, outputs: list) -> None:
    miniature.save_graph(path, nodes, inputs, outputs, {})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_decoder_reads_what_nobody_makes, "decoder.onnx: its input depth is none of .*working, "),
        (_adapter_reads_another_shape, "adapter.onnx: its input stem is .* but comes as "),
        (_adapter_gives_another_shape, "adapter.onnx: features is .* must be float32 of shape"),
        (_decoder_gives_another_name, "decoder.onnx: image is not among its picture"),
        (_trunk_reads_two_things, "trunk.onnx: frame is not among its stem, gate"),
        (_trunk_makes_an_open_shape, "trunk.onnx: stem must be of fixed shape"),
    ],
)
@pytest.mark.parametrize("backend", ON_ONNX)
def test_graphs_that_cannot_be_wired_are_refused(
    tmp_path: Path, miniature: ModuleType, backend: str, change: Change, reason: str
) -> None:
    folder = tmp_path / "miniature"
    with folder_written_beside(folder) as beside:
        miniature.save_parts(beside)
        change(miniature, beside / "onnxruntime")
        prompts = {task: miniature.PROMPTS[task] for task in miniature.TASKS}
        write_bundle(beside, miniature.manifest(), prompts)

    with pytest.raises(BundleError, match=reason) as caught:
        open_engine(folder, backend)
    assert "python -m unirestore_ros build engines/miniature.yaml" in str(caught.value)


@pytest.mark.parametrize("backend", ON_ONNX)
def test_a_graph_that_cannot_be_loaded_is_refused(
    tmp_path: Path, miniature: ModuleType, backend: str
) -> None:
    folder = tmp_path / "miniature"
    with folder_written_beside(folder) as beside:
        miniature.save_parts(beside)
        (beside / "onnxruntime" / "decoder.onnx").write_bytes(b"")
        prompts = {task: miniature.PROMPTS[task] for task in miniature.TASKS}
        write_bundle(beside, miniature.manifest(), prompts)

    said = r"onnxruntime .* \(built with 1\.0\)" if backend == "onnxruntime" else "OpenVINO .* says"
    with pytest.raises(BundleError, match=rf"decoder\.onnx: {said}"):
        open_engine(folder, backend)


def test_a_part_that_fails_says_which(tmp_path: Path, miniature: ModuleType) -> None:
    """Frame values index a table of two rows: a frame of zeros works, a bright one fails."""
    nodes: list[Any] = [
        ("Cast", "frame", "rows", {"to": TensorProto.INT64}),
        ("Gather", "table rows", "working", {}),
    ]
    folder = tmp_path / "miniature"
    with folder_written_beside(folder) as beside:
        miniature.save_parts(beside)
        path = beside / "onnxruntime" / "trunk.onnx"
        extra: list[Any] = [
            ("Expand", "zero stem_shape", "stem", {}),
            ("Expand", "zero gate_shape", "gate", {}),
        ]
        constants = {
            "table": np.zeros(2, np.float32),
            "zero": np.float32(0),
            "stem_shape": np.array(miniature.fixed(miniature.STEM[2])),
            "gate_shape": np.array(miniature.fixed(miniature.GATE[2])),
        }
        outputs = [miniature.WORKING, miniature.STEM, miniature.GATE]
        miniature.save_graph(path, nodes + extra, [miniature.FRAME], outputs, constants)
        prompts = {task: miniature.PROMPTS[task] for task in miniature.TASKS}
        write_bundle(beside, miniature.manifest(), prompts)

    frame = np.zeros((miniature.HEIGHT, miniature.WIDTH, 3), np.uint8)
    with open_engine(folder, "onnxruntime") as engine:
        engine.run_trunk(frame)
        with pytest.raises(InferenceError, match=r"^onnxruntime/trunk\.onnx: .*Gather"):
            engine.run_trunk(frame + 9)
        with pytest.raises(ValueError, match="run_trunk comes first"):
            engine.decode("perception")
        engine.run_trunk(frame)
        engine.decode("perception")


def test_there_is_a_core_to_run_on() -> None:
    assert physical_cores() >= 1


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="for the torch backend")
@pytest.mark.parametrize(
    ("part", "inputs", "outputs", "reason"),
    [
        ("decoder", ["DEPTH", "PROMPT"], {"image": "IMAGE"}, "its input depth is none of frame, "),
        ("adapter", ["WIDE"], {"features": "FEATURES"}, "its input stem is .* but comes as "),
        ("adapter", ["STEM"], {"features": "STEM"}, "features is .* must be float32 of shape"),
        ("decoder", ["FRAME"], {"picture": "IMAGE"}, "image is not among its picture"),
        ("trunk", ["STEM"], {"sum": "STEM"}, "its input stem is none of frame"),
    ],
)
def test_programs_that_cannot_be_wired_are_refused(
    tmp_path: Path,
    miniature: ModuleType,
    part: str,
    inputs: list[str],
    outputs: dict[str, str],
    reason: str,
) -> None:
    """A program that reads these inputs and gives zeros."""
    import torch

    kinds = {
        "DEPTH": ("depth", *miniature.IMAGE[1:]),
        "WIDE": ("stem", TensorProto.FLOAT, (1, 12, 16, 8)),
    }
    shapes = {name: miniature.fixed(getattr(miniature, kind)[2]) for name, kind in outputs.items()}
    dtype = torch.uint8 if "IMAGE" in outputs.values() else torch.float32

    class Zeros(torch.nn.Module):
        def forward(self, **given: torch.Tensor) -> dict[str, torch.Tensor]:
            zero = sum(tensor.float().sum() for tensor in given.values()) * 0
            return {name: zero.expand(shape).to(dtype) for name, shape in shapes.items()}

    folder = tmp_path / "miniature"
    with folder_written_beside(folder) as beside:
        miniature.save_parts(beside)
        given = [kinds[name] if name in kinds else getattr(miniature, name) for name in inputs]
        given = [(name, kind, miniature.fixed(shape)) for name, kind, shape in given]
        (beside / "torch" / f"{part}.pt2").unlink()
        miniature.save_program(beside / "torch" / f"{part}.pt2", Zeros(), given)
        prompts = {task: miniature.PROMPTS[task] for task in miniature.TASKS}
        write_bundle(beside, miniature.manifest(), prompts)

    with pytest.raises(BundleError, match=rf"torch/{part}\.pt2: {reason}"):
        open_engine(folder, "torch")
