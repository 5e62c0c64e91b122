"""Both TensorRT backends and compiling, run against a stand-in: no GPU is at hand to run them on.

Host memory for device memory, ONNX Runtime for engines, a library of four functions for the driver.
It shows that addresses, copies, waits, prompts and files are wired as they should be; that TensorRT
and CUDA behave as the stand-in does is what it cannot show.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from unirestore_ros.engine.bundle import read_bundle
from unirestore_ros.engine.manifest import REFERENCE_SAMPLES, BackendInfo
from unirestore_ros.engine.writing import folder_written_beside, link_files, write_bundle

DRIVER = """
int cuInit(int flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDeviceGetName(char *name, int size, int device) { name[0] = 'X'; name[1] = 0; return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) {
    *value = which == 75 ? 8 : 6;
    return 0;
}
"""
KINDS = ("tensorrt", "tensorrt_rtx")
USE = """
import sys
import numpy as np
from pathlib import Path
from unirestore_ros.engine import open_engine

frames = [np.random.default_rng(i).integers(0, 256, (48, 64, 3), dtype=np.uint8) for i in range(2)]
results = {}
kind = sys.argv[2]
for backend in (kind, "onnxruntime"):
    folder = Path(sys.argv[1]) / backend
    engine = open_engine(folder, "auto" if backend == kind else backend)
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
print("agree", len(results[kind]))
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
    """The same graphs: exported for both kinds of TensorRT, and for ONNX Runtime."""
    for backend in (*KINDS, "onnxruntime"):
        with folder_written_beside(tmp_path / backend) as beside:
            miniature.save_trunk(beside / backend / "trunk.onnx")
            miniature.save_decoder(beside / backend / "decoder.onnx")
            miniature.save_adapter(beside / backend / "adapter.onnx")
            miniature.save_reference(beside)
            info = BackendInfo(None if backend in KINDS else "1.0")
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


def compile_it(
    library: Path, bundles: Path, *options: str, kind: str = "tensorrt", **environment: str
) -> Done:
    command = ("-m", "unirestore_ros", "build", str(bundles / kind), *options)
    return run(library, bundles / "cache", *command, **environment)


def test_a_bundle_is_compiled_and_runs(library: Path, bundles: Path) -> None:
    done = compile_it(library, bundles)

    assert done.returncode == 0, done.stderr
    assert "decoder: Building Engine" in done.stderr and "left" in done.stderr
    info = read_bundle(bundles / "tensorrt").manifest.backends["tensorrt"]
    assert info == BackendInfo("10.3.0", "X", "8.6")
    (cache,) = (bundles / "cache" / "unirestore_ros").iterdir()
    assert cache.name == "tensorrt-10.3.0-X-8.6.timing"
    assert cache.read_bytes() == b"+++"

    used = run(library, bundles, "-c", USE, str(bundles), "tensorrt")
    assert used.returncode == 0, used.stderr
    assert used.stdout == "agree 12\n"


def test_for_rtx_it_is_compiled_anywhere_and_runs(library: Path, bundles: Path) -> None:
    """Compiling asks for no driver; what the card adds is kept for the next start."""
    nowhere = bundles / "no_driver"
    done = compile_it(nowhere, bundles, "--gpu", "8.9,8.6", kind="tensorrt_rtx")

    assert done.returncode == 0, done.stderr
    info = read_bundle(bundles / "tensorrt_rtx").manifest.backends["tensorrt_rtx"]
    assert info == BackendInfo("1.7.1.116", None, "8.6, 8.9")
    assert not (bundles / "cache" / "unirestore_ros").exists()

    used = run(library, bundles / "cache", "-c", USE, str(bundles), "tensorrt_rtx")
    assert used.returncode == 0, used.stderr
    assert used.stdout == "agree 12\n"
    kernels = bundles / "cache" / "unirestore_ros" / "kernels"
    assert kernels.stat().st_mode & 0o777 == 0o700
    names = sorted(path.name for path in kernels.iterdir())
    assert [name.partition("-")[0] for name in names] == ["adapter", "decoder", "trunk"]
    assert all(name.endswith("-X-8.6-1.7.1.116.bin") for name in names)

    kernels.chmod(0o755)
    again = run(library, bundles / "cache", "-c", USE, str(bundles), "tensorrt_rtx")
    assert again.stdout == "agree 12\n" and "is not a folder of mode 0700" in again.stderr


def test_make_gpu_runs_to_its_end(library: Path, bundles: Path, tmp_path: Path) -> None:
    """With what is there: no PyTorch with CUDA, no nvidia-smi."""
    pytest.importorskip("torch", reason="make gpu probes it too")
    compile_it(library, bundles, kind="tensorrt_rtx")
    command = ("-m", "unirestore_ros.evaluate.gpu_report", "--models", "", "--frames", "3")
    options = ("--bundle", str(bundles / "tensorrt_rtx"), "--out", str(tmp_path / "out"))
    done = run(library, bundles / "cache", *command, *options)

    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "gpu.json").read_text())
    (row,) = report["rows"]
    assert (row["backend"], row["runs"], row["outputs"]) == ("tensorrt_rtx", 3, 3)
    assert row["same_bits"] and row["psnr_to_fp32_db"]["features"] > 100
    full, killed = report["faults"]
    assert full["fault"] == "fill_memory" and "CUDA error 2" in full["refused"]
    assert killed["fault"] == "killed" and killed["runs_again_after_s"] > 0
    assert "has no CUDA here" in report["left_out"]["break_context with tensorrt_rtx"]
    assert "| tiny | tensorrt_rtx | fp32 |" in (tmp_path / "out" / "gpu.md").read_text()


def test_rtx_engines_are_for_the_cards_that_were_named(library: Path, bundles: Path) -> None:
    compile_it(library, bundles, "--gpu", "12.0", kind="tensorrt_rtx")
    used = run(library, bundles, "-c", USE, str(bundles), "tensorrt_rtx")
    assert (
        "backends.tensorrt_rtx.compute_capability: it was compiled for 12.0, here is 8.6; fix: "
        f"python -m unirestore_ros build {bundles / 'tensorrt_rtx'} --gpu 8.6" in used.stderr
    )

    refused = compile_it(library, bundles, "--gpu", "8.7", kind="tensorrt_rtx")
    assert refused.returncode == 1
    assert "compiles for compute capability 7.5, 8.6, 8.9, 12.0, not for 8.7" in refused.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tensor", ["image", "features", "stem"])
def test_wrong_numbers_are_refused_with_both_figures(
    library: Path, bundles: Path, tensor: str, kind: str
) -> None:
    """An output that is not what the reference says, as a compiler's fault would make it."""
    folder = bundles / kind
    bundle = read_bundle(folder)
    with folder_written_beside(folder) as beside:
        link_files(bundle, beside, lambda path: path != REFERENCE_SAMPLES)
        samples = dict(load_file(folder / REFERENCE_SAMPLES))
        samples[tensor] = samples[tensor] + 0.1 * np.ptp(samples[tensor])  # 20 dB
        save_file(samples, beside / REFERENCE_SAMPLES)
        write_bundle(beside, bundle.manifest, bundle.prompts)
    compile_it(library, bundles, kind=kind)

    used = run(library, bundles / "cache", "-c", USE, str(bundles), kind)

    line = used.stderr.splitlines()[-1]
    assert f"backend {kind} computes wrong numbers: {tensor} of the reference frame is" in line
    assert "20.0 dB from float32, must be 35 or more; fix: " in line
    known = "TensorRT 10.3.0 is known for wrong numbers: install 10.14 or later"
    assert (known in line) == (kind == "tensorrt")


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
