"""Compile a bundle's exported parts for this GPU, with progress; on an error it stays as it was."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from unirestore_ros.engine.backends import cuda_driver, missing_package
from unirestore_ros.engine.bundle import Bundle, BundleError, read_bundle
from unirestore_ros.engine.manifest import ENGINE_SUFFIX, BackendInfo
from unirestore_ros.engine.writing import link_files, write_bundle
from unirestore_ros.files import folder_written_beside


def compile_bundle(
    folder: Path, device_id: int = 0, workspace: int | None = None, timing_cache: Path | None = None
) -> Bundle:
    """Compile the ONNX files of ``tensorrt/`` and put the engines beside them.

    ``workspace`` in bytes. BundleError where there is nothing to compile or to compile it with;
    ValueError with all that TensorRT said where it refuses a graph.
    """
    bundle = read_bundle(folder)
    if "tensorrt" not in bundle.manifest.backends:
        raise BundleError(
            f"bundle {folder}: it holds nothing for TensorRT to compile",
            bundle.build_command("--backend", "tensorrt", "--onnx-only"),
        )
    device = check_compiler(device_id)
    from unirestore_ros.engine.backends.tensorrt_versions import VERSION
    from unirestore_ros.export.tensorrt_compile import Compiler

    cache = timing_cache or default_timing_cache(VERSION, device)
    info = BackendInfo(VERSION, device.name, device.compute_capability)
    manifest = dataclasses.replace(
        bundle.manifest, backends={**bundle.manifest.backends, "tensorrt": info}
    )
    with folder_written_beside(folder) as beside:
        link_files(bundle, beside, lambda path: not path.endswith(ENGINE_SUFFIX))
        sizes = bundle.manifest.sizes.extremes()
        Compiler(workspace, cache, sizes).compile_parts(beside / "tensorrt")
        write_bundle(beside, manifest, bundle.prompts)
    return read_bundle(folder)


def default_timing_cache(version: str, device: cuda_driver.Device) -> Path:
    """Return the path of the timings for this version and GPU, in the user's cache folder."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    gpu = "".join(c if c.isalnum() else "-" for c in device.name)
    return root / "unirestore_ros" / f"tensorrt-{version}-{gpu}-{device.compute_capability}.timing"


def check_compiler(device_id: int) -> cuda_driver.Device:
    """Return the device to compile for; BundleError unless it and all of TensorRT are there."""
    try:
        device = cuda_driver.device(device_id)
    except cuda_driver.CudaError as error:
        raise BundleError(
            f"TensorRT compiles on the GPU that will run the bundle: {error}",
            "--onnx-only here, then `python -m unirestore_ros build FOLDER` on the vehicle",
        ) from error
    if missing := missing_package("tensorrt"):
        raise BundleError(f"the Python package {missing} is not installed", "see engines/README.md")
    from unirestore_ros.engine.backends.tensorrt_versions import can_build

    if not can_build():
        raise BundleError(
            "the TensorRT here is the run-time half only, which compiles nothing",
            "install the whole of it: see engines/README.md",
        )
    return device
