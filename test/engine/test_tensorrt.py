"""Bundles with TensorRT parts: what is refused before TensorRT is touched, and by its run-time.

No engine can be built here: its bytes are made up, and everything around them is real.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from safetensors.numpy import save_file

from unirestore_ros.engine import BundleError, open_engine
from unirestore_ros.engine.backends import choose_backend
from unirestore_ros.engine.backends.cuda_driver import (
    CudaError,
    Device,
    check_device,
    check_version,
    device,
)
from unirestore_ros.engine.bundle import manifest_hash_line, read_bundle
from unirestore_ros.engine.manifest import ENGINE_SUFFIX, PARTS, BackendInfo
from unirestore_ros.engine.writing import add_prompt, folder_written_beside, write_bundle

COMPILED = BackendInfo("10.3.0", "Orin", "8.7")
EXPORTED = BackendInfo(None)
ENGINES = [f"tensorrt/{part}{ENGINE_SUFFIX}" for part in PARTS]
LEAN = importlib.util.find_spec("tensorrt_lean") or (
    (found := importlib.util.find_spec("tensorrt")) and found.origin
)
try:
    device(0)
    HAS_CUDA = True
except CudaError:
    HAS_CUDA = False


def write(folder: Path, miniature: ModuleType, info: BackendInfo) -> Path:
    with folder_written_beside(folder) as beside:
        miniature.save_trunk(beside / "tensorrt" / "trunk.onnx")
        miniature.save_decoder(beside / "tensorrt" / "decoder.onnx")
        miniature.save_adapter(beside / "tensorrt" / "adapter.onnx")
        miniature.save_reference(beside)
        if info.version is not None:
            for number, path in enumerate(ENGINES):
                (beside / path).write_bytes(bytes([number]) * 100)
        manifest = dataclasses.replace(miniature.manifest(), backends={"tensorrt": info}, heads={})
        write_bundle(beside, manifest, {t: miniature.PROMPTS[t] for t in miniature.TASKS})
    return folder


@pytest.fixture
def compiled(tmp_path: Path, miniature: ModuleType) -> Path:
    return write(tmp_path / "miniature", miniature, COMPILED)


@pytest.fixture
def exported(tmp_path: Path, miniature: ModuleType) -> Path:
    return write(tmp_path / "miniature", miniature, EXPORTED)


def edit(folder: Path, **info: str) -> None:
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    values["backends"]["tensorrt"].update(info)
    path.write_text(json.dumps(values))
    (folder / "manifest.sha256").write_text(manifest_hash_line(path.read_bytes()))


@pytest.mark.parametrize("field", ["version", "gpu", "compute_capability"])
def test_a_changed_field_is_refused_by_name(compiled: Path, field: str) -> None:
    edit(compiled, **{field: "9.9"})

    with pytest.raises(BundleError, match=rf"tensorrt\.{field}: .* compiled for 9\.9, here is"):
        check_device(read_bundle(compiled), "tensorrt", Device(0, "Orin", "8.7"))
        check_version(read_bundle(compiled), "tensorrt", "10.3.0")


@pytest.mark.parametrize("path", [*ENGINES, "tensorrt/trunk.onnx"])
def test_a_flipped_byte_is_refused_by_file(compiled: Path, path: str) -> None:
    content = bytearray((compiled / path).read_bytes())
    content[-1] ^= 1
    (compiled / path).write_bytes(content)

    with pytest.raises(BundleError, match=f"{path} does not have the SHA-256"):
        read_bundle(compiled)


@pytest.mark.parametrize("path", ENGINES)
def test_a_missing_engine_is_refused_by_file(compiled: Path, path: str) -> None:
    (compiled / path).unlink()

    with pytest.raises(BundleError, match=f"{path} is missing"):
        read_bundle(compiled)


@pytest.mark.parametrize("info", [BackendInfo("10.3.0"), BackendInfo(None, "Orin", "8.7")])
def test_half_a_binding_is_refused(
    tmp_path: Path, miniature: ModuleType, info: BackendInfo
) -> None:
    with pytest.raises(ValueError, match=r"backends\.tensorrt: version, gpu and"):
        write(tmp_path / "miniature", miniature, info)


@pytest.mark.parametrize(
    ("here", "said"),
    [
        (Device(0, "Thor", "8.7"), r"backends\.tensorrt\.gpu: .* for Orin, here is Thor"),
        (Device(0, "Orin", "11.0"), r"compute_capability: .* for 8\.7, here is 11\.0"),
    ],
)
def test_another_gpu_is_refused(compiled: Path, here: Device, said: str) -> None:
    with pytest.raises(BundleError, match=said) as caught:
        check_device(read_bundle(compiled), "tensorrt", here)
    assert f"python -m unirestore_ros build {compiled}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_version_of_tensorrt_is_refused(compiled: Path) -> None:
    bundle = read_bundle(compiled)
    with pytest.raises(
        BundleError, match=r"version: .* for 10\.3\.0, here is 11\.4\.0\.106"
    ) as caught:
        check_version(bundle, "tensorrt", "11.4.0.106")
    assert f"python -m unirestore_ros build {compiled}" in str(caught.value)
    check_version(bundle, "tensorrt", "10.3.0")
    check_device(bundle, "tensorrt", Device(0, "Orin", "8.7"))


def test_an_exported_bundle_says_how_to_compile_it(exported: Path) -> None:
    bundle = read_bundle(exported)
    with pytest.raises(BundleError, match="exported and not compiled") as caught:
        check_device(bundle, "tensorrt", Device(0, "Orin", "8.7"))
    assert f"python -m unirestore_ros build {exported}" in str(caught.value)
    with pytest.raises(BundleError, match="runs here: tensorrt: "):
        choose_backend(bundle, "auto")


def test_a_prompt_is_added_without_touching_an_engine(
    compiled: Path, tmp_path: Path, miniature: ModuleType
) -> None:
    before = {path: (compiled / path).read_bytes() for path in ENGINES}
    save_file({"p": miniature.PROMPTS["parking_space"]}, tmp_path / "p.safetensors")

    added = add_prompt(compiled, "parking_space", tmp_path / "p.safetensors")

    assert "parking_space" in added.manifest.tasks
    assert {path: (compiled / path).read_bytes() for path in ENGINES} == before


@pytest.mark.skipif(HAS_CUDA, reason="there is a CUDA device")
def test_without_a_device_tensorrt_is_never_touched(compiled: Path) -> None:
    """Its run-time would crash: the process must live, and say what is missing."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from unirestore_ros.engine import BundleError, open_engine\n"
        "try: open_engine(Path(sys.argv[1]), 'tensorrt')\n"
        "except BundleError as error: print(error)\n"
        "print(sorted({'tensorrt', 'tensorrt_lean', 'cuda.bindings'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", program, str(compiled)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    message, touched = done.stdout.splitlines()
    assert touched == "[]"
    assert "backend tensorrt: there is no NVIDIA driver" in message


@pytest.mark.skipif(HAS_CUDA or not LEAN, reason="for TensorRT's run-time without a CUDA device")
def test_the_real_run_time_is_asked_last(compiled: Path) -> None:
    """With TensorRT installed and no driver, the driver is what is missing."""
    with pytest.raises(BundleError, match="backend tensorrt: there is no NVIDIA driver"):
        open_engine(compiled, "tensorrt")


@pytest.mark.skipif(not LEAN, reason="for TensorRT's run-time")
def test_the_real_run_time_has_the_version_that_is_compared(compiled: Path) -> None:
    from unirestore_ros.engine.backends.tensorrt_backend import TensorRTBackend
    from unirestore_ros.engine.backends.tensorrt_versions import load_tensorrt

    bundle, version = read_bundle(compiled), load_tensorrt("tensorrt").version
    with pytest.raises(BundleError, match=f"for 10.3.0, here is {version}"):
        TensorRTBackend(bundle, "tensorrt", Device(0, "Orin", "8.7"), bundle.manifest.working_size)
