"""Every tool that opens a bundle says in one line that there is no driver for its engines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ros_miniature import write_miniature

from unirestore_ros.demo.command import main as demo
from unirestore_ros.doctor.network import check_bundle
from unirestore_ros.engine import BundleError
from unirestore_ros.engine.backends import runnable_here
from unirestore_ros.engine.backends.cuda_driver import CudaError, device
from unirestore_ros.engine.backends.tensorrt_versions import RTX
from unirestore_ros.engine.bundle import read_bundle
from unirestore_ros.engine.manifest import (
    ENGINE_SUFFIX,
    PARTS,
    REFERENCE_FRAME,
    REFERENCE_SAMPLES,
    BackendInfo,
)
from unirestore_ros.engine.writing import write_bundle
from unirestore_ros.evaluate.bench_command import main as bench
from unirestore_ros.evaluate.camera_bench import main as camera_bench
from unirestore_ros.evaluate.engine_process_bench import main as engine_process_bench
from unirestore_ros.evaluate.gpu_report import main as gpu_report
from unirestore_ros.evaluate.guard_calibration import main as guard_calibration
from unirestore_ros.files import folder_written_beside
from unirestore_ros.recordings.images import write_image
from unirestore_ros.recordings.restore import main as restore

SAID = "there is no NVIDIA driver (libcuda.so.1 is not found)"


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of engines for an RTX card alone, with an image beside it."""
    try:
        device(0)
        pytest.skip("there is a CUDA device")
    except CudaError:
        pass
    folder = tmp_path_factory.mktemp("engines")
    write_image(folder / "image.png", np.zeros((48, 64, 3), np.uint8))
    source = read_bundle(write_miniature(folder / "source"))
    info = {RTX: BackendInfo("1.7.1.116", None, "8.6, 8.9, 12.0")}
    with folder_written_beside(folder / "rtx") as beside:
        for part in PARTS:
            (beside / RTX).mkdir(exist_ok=True)
            graph = source.read(f"onnxruntime/{part}.onnx")
            (beside / RTX / f"{part}.onnx").write_bytes(graph)
            (beside / RTX / f"{part}{ENGINE_SUFFIX}").write_bytes(b"an engine")
        (beside / "reference").mkdir()
        for name in (REFERENCE_FRAME, REFERENCE_SAMPLES):
            (beside / name).write_bytes(b"not read without a driver")
        write_bundle(beside, dataclasses.replace(source.manifest, backends=info), source.prompts)
    return folder / "rtx"


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (restore, "{beside}/image.png {out} --bundle {bundle}"),
        (restore, "{beside}/image.png {out} --bundle {bundle} --backend tensorrt_rtx"),
        (bench, "--model {bundle} --out {out}"),
        (demo, "--bundle {bundle} --out {out}"),
        (engine_process_bench, "--bundle {bundle} --out {out}"),
        (camera_bench, "sizes --bundle {bundle} --out {out}"),
        (guard_calibration, "--bundle {bundle} --data none --work {out}"),
        (gpu_report, "--bundle {bundle} --out {out}"),
    ],
)
def test_a_missing_driver_is_said_in_one_line(
    engines: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    main: Callable[[list[str]], int],
    arguments: str,
) -> None:
    out = tmp_path / "out"
    names = {"beside": engines.parent, "bundle": engines, "out": out}
    assert main([word.format(**names) for word in arguments.split()]) == 1
    captured = capsys.readouterr()
    lines = [*captured.err.splitlines(), *caplog.messages]
    assert [line for line in lines if SAID in line] == lines and len(set(lines)) == 1
    assert captured.out == "" and not out.exists()


def test_what_runs_it_and_the_doctor_say_why(engines: Path) -> None:
    with pytest.raises(BundleError, match=r"no backend .* runs here: tensorrt_rtx: there is no NV"):
        runnable_here(read_bundle(engines))
    assert SAID in check_bundle(str(engines)).found
