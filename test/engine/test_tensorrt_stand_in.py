"""The tensorrt backend and compiling, run against a stand-in: no GPU is at hand to run them on.

Host memory for device memory, ONNX Runtime for engines, a library of four functions for the driver.
It shows that addresses, copies, waits, prompts and files are wired as they should be; that TensorRT
and CUDA behave as the stand-in does is what it cannot show.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from unirestore_ros.engine.bundle import read_bundle
from unirestore_ros.engine.manifest import BackendInfo
from unirestore_ros.engine.writing import folder_written_beside, write_bundle

DRIVER = """
int cuInit(int flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDeviceGetName(char *name, int size, int device) { name[0] = 'X'; name[1] = 0; return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) { *value = which - 70; return 0; }
"""
USE = """
import sys
import numpy as np
from pathlib import Path
from unirestore_ros.engine import open_engine

frames = [np.random.default_rng(i).integers(0, 256, (48, 64, 3), dtype=np.uint8) for i in range(2)]
results = {}
for backend in ("tensorrt", "onnxruntime"):
    folder = Path(sys.argv[1]) / backend
    engine = open_engine(folder, "auto" if backend == "tensorrt" else backend)
    assert engine.backend == backend, engine.backend
    found = []
    for frame in frames:
        engine.run_trunk(frame)
        features = {task: engine.adapt(task) for task in engine.tasks}
        images = [engine.decode(task).copy() for task in reversed(engine.tasks)]
        found += [*images, *(feature.copy() for feature in features.values())]
        assert not features["detection"].flags.writeable
    results[backend] = found
    kept = engine.decode("perception")
    before = kept.copy()
    engine.close()
    del engine
    assert (kept == before).all()
for ours, expected in zip(*results.values(), strict=True):
    np.testing.assert_array_equal(ours, expected)
print("agree", len(results["tensorrt"]))
"""

Done = subprocess.CompletedProcess[str]
pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="compiles a stand-in driver")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("driver")
    command = ["gcc", "-shared", "-x", "c", "-", "-o", str(folder / "libcuda.so.1")]
    subprocess.run(command, input=DRIVER.encode(), check=True)
    return folder


@pytest.fixture
def bundles(tmp_path: Path, miniature: ModuleType) -> Path:
    """The same graphs twice: exported for TensorRT, and for ONNX Runtime."""
    for backend in ("tensorrt", "onnxruntime"):
        with folder_written_beside(tmp_path / backend) as beside:
            miniature.save_trunk(beside / backend / "trunk.onnx")
            miniature.save_decoder(beside / backend / "decoder.onnx")
            miniature.save_adapter(beside / backend / "adapter.onnx")
            info = BackendInfo(None if backend == "tensorrt" else "1.0")
            manifest = dataclasses.replace(miniature.manifest(), backends={backend: info}, heads={})
            write_bundle(beside, manifest, {t: miniature.PROMPTS[t] for t in miniature.TASKS})
    return tmp_path


def run(library: Path, cache: Path, *arguments: str, **environment: str) -> Done:
    stand_in = Path(__file__).with_name("stand_in")
    repository = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, *arguments],
        env={
            **os.environ,
            "LD_LIBRARY_PATH": str(library),
            "PYTHONPATH": f"{stand_in}{os.pathsep}{repository}",
            "XDG_CACHE_HOME": str(cache),
            **environment,
        },
        capture_output=True,
        text=True,
    )


def compile_it(library: Path, bundles: Path, **environment: str) -> Done:
    command = ("-m", "unirestore_ros", "build", str(bundles / "tensorrt"))
    return run(library, bundles / "cache", *command, **environment)


def test_a_bundle_is_compiled_and_runs(library: Path, bundles: Path) -> None:
    done = compile_it(library, bundles)

    assert done.returncode == 0, done.stderr
    assert "decoder: Building Engine" in done.stderr and "left" in done.stderr
    info = read_bundle(bundles / "tensorrt").manifest.backends["tensorrt"]
    assert info == BackendInfo("10.3.0", "X", "5.6")
    (cache,) = (bundles / "cache" / "unirestore_ros").iterdir()
    assert cache.name == "tensorrt-10.3.0-X-5.6.timing"
    assert cache.read_bytes() == b"+++"

    used = run(library, bundles, "-c", USE, str(bundles))
    assert used.returncode == 0, used.stderr
    assert used.stdout == "agree 12\n"


def test_it_is_compiled_again_in_place(library: Path, bundles: Path) -> None:
    """As after an upgrade of TensorRT; a timing cache of another kind is left behind."""
    compile_it(library, bundles)
    first = read_bundle(bundles / "tensorrt").manifest
    cache = next((bundles / "cache" / "unirestore_ros").iterdir())
    cache.write_bytes(b"another")

    done = compile_it(library, bundles)

    assert done.returncode == 0, done.stderr
    assert "is of another GPU or TensorRT: starting anew" in done.stderr
    again = read_bundle(bundles / "tensorrt").manifest
    assert again.backends == first.backends
    assert again.files.keys() == first.files.keys()


def test_parser_errors_are_shown_in_full(library: Path, bundles: Path) -> None:
    before = read_bundle(bundles / "tensorrt").manifest

    done = compile_it(library, bundles, BROKEN="decoder")

    assert done.returncode == 1
    for number in range(2):
        line = f"node 7 node_{number} (Frobnicate): there is no importer for it"
        assert line in done.stderr
    assert "cannot read decoder.onnx" in done.stderr
    assert read_bundle(bundles / "tensorrt").manifest == before


def test_what_tensorrt_said_is_shown_when_it_fails(library: Path, bundles: Path) -> None:
    done = compile_it(library, bundles, OUT_OF_MEMORY="1")

    assert done.returncode == 1
    assert "cannot compile trunk.onnx; it said:\nno tactic fits the workspace" in done.stderr


def test_compiling_needs_no_pytorch(library: Path, bundles: Path) -> None:
    program = (
        "import sys; from unirestore_ros.export.command import main;"
        f"assert main([{str(bundles / 'tensorrt')!r}]) == 0;"
        "print(sorted({'torch', 'onnx', 'diffusers'} & set(sys.modules)))"
    )
    done = run(library, bundles / "cache", "-c", program)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


def test_an_engine_of_another_gpu_is_refused_before_it_is_read(
    library: Path, bundles: Path, tmp_path: Path
) -> None:
    compile_it(library, bundles)
    other = tmp_path / "other"
    other.mkdir()
    command = ["gcc", "-shared", "-x", "c", "-", "-o", str(other / "libcuda.so.1")]
    subprocess.run(command, input=DRIVER.replace("'X'", "'Y'").encode(), check=True)

    program = (
        f"from unirestore_ros.engine import open_engine; open_engine({str(bundles / 'tensorrt')!r})"
    )
    done = run(other, bundles, "-c", program)

    assert "backends.tensorrt.gpu: it was compiled for X, here is Y" in done.stderr
