"""Compile a bundle's exported parts, with progress; on an error it stays as it was.

TensorRT compiles on the GPU that will run the bundle, TensorRT for RTX on any machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from unirestore_ros.engine.backends import cuda_driver, install_advice, missing_module
from unirestore_ros.engine.backends.tensorrt_versions import RTX, TensorRT, load_tensorrt
from unirestore_ros.engine.bundle import Bundle, BundleError, read_bundle
from unirestore_ros.engine.manifest import COMPILED, ENGINE_SUFFIX, BackendInfo
from unirestore_ros.engine.working_size import Size
from unirestore_ros.engine.writing import link_files, write_bundle
from unirestore_ros.files import folder_written_beside, user_cache_folder

Sizes = tuple[Size, Size, Size]
"""A least, the usual and a largest padded working size (width, height)."""
RTX_GPUS = ("8.6", "8.9", "12.0")
"""Compute capabilities that are compiled for unless others are named: RTX 30, 40 and 50."""


@dataclasses.dataclass(frozen=True)
class CompileOptions:
    """How to compile; what a kind of TensorRT does not know, it passes over."""

    device_id: int = 0
    workspace: int | None = None
    """Bytes that TensorRT's kernels may use beside their tensors; None: what the device has."""
    timing_cache: Path | None = None
    """TensorRT's timings of kernels; None: a file among the user's caches."""
    gpus: tuple[str, ...] = RTX_GPUS
    """Compute capabilities that TensorRT for RTX compiles for."""
    sides: tuple[int, int] | None = None
    """Least and largest side of the padded working sizes to compile for; None: all of the budget's.
    Frames that need another are refused when the parts are pinned to them."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A TensorRT that can compile here, and what it compiles for."""

    api: TensorRT
    device: cuda_driver.Device | None
    """The GPU at hand; None for TensorRT for RTX."""
    gpus: tuple[str, ...]

    @property
    def info(self) -> BackendInfo:
        if self.device is None:
            return BackendInfo(self.api.version, None, ", ".join(self.gpus))
        device = self.device
        return BackendInfo(self.api.version, device.name, device.compute_capability)


def compile_bundle(
    folder: Path, options: CompileOptions | None = None, backends: Sequence[str] = COMPILED
) -> Bundle:
    """Compile the ONNX files that a bundle has for these backends; put the engines beside them.

    BundleError where there is nothing to compile or to compile it with; ValueError with all that
    TensorRT said where it refuses a graph.
    """
    options = options or CompileOptions()
    bundle = read_bundle(folder)
    held = [name for name in backends if name in bundle.manifest.backends]
    if not held:
        raise BundleError(
            f"bundle {folder}: it holds nothing for TensorRT to compile",
            bundle.build_command("--backend", backends[0], "--onnx-only"),
        )
    targets = {name: check_compiler(name, options) for name in held}
    from unirestore_ros.export.tensorrt_compile import Compiler

    infos = {name: target.info for name, target in targets.items()}
    manifest = dataclasses.replace(bundle.manifest, backends={**bundle.manifest.backends, **infos})
    sizes = narrowed(bundle.manifest.sizes.extremes(), options.sides)
    old_engines = tuple(f"{name}/" for name in held)
    with folder_written_beside(folder) as beside:
        link_files(
            bundle,
            beside,
            lambda path: not (path.startswith(old_engines) and path.endswith(ENGINE_SUFFIX)),
        )
        for name, target in targets.items():
            compiler = Compiler(target.api, sizes, options.workspace)
            compiler.gpus = target.gpus
            if target.device is not None:
                compiler.timing_cache = options.timing_cache or default_timing_cache(target)
            compiler.compile_parts(beside / name)
        write_bundle(beside, manifest, bundle.prompts)
    return read_bundle(folder)


def narrowed(sizes: Sizes, sides: tuple[int, int] | None) -> Sizes:
    """Keep least and largest size within sides; ValueError where the usual one is outside."""
    if sides is None:
        return sizes
    least, usual, most = sizes
    if not sides[0] <= min(usual) <= max(usual) <= sides[1]:
        raise ValueError(
            f"compiled_sides: {usual[0]}x{usual[1]}, the padded working size, is outside of "
            f"{sides[0]} to {sides[1]}"
        )
    least = (max(least[0], sides[0]), max(least[1], sides[0]))
    return least, usual, (min(most[0], sides[1]), min(most[1], sides[1]))


def default_timing_cache(target: Target) -> Path:
    """Return the path of the timings for this version and GPU, in the user's cache folder."""
    device = target.device
    assert device is not None
    gpu = "".join(c if c.isalnum() else "-" for c in device.name)
    name = f"tensorrt-{target.api.version}-{gpu}-{device.compute_capability}.timing"
    return user_cache_folder() / name


def check_compiler(backend: str, options: CompileOptions) -> Target:
    """Return what to compile with; BundleError unless all that it needs is there."""
    device = None if backend == RTX else _device_at_hand(options.device_id)
    if missing := missing_module(backend):
        raise BundleError(f"the Python package {missing} is not installed", install_advice(missing))
    api = load_tensorrt(backend)
    if not api.can_build():
        raise BundleError(
            "the TensorRT here is the run-time half only, which compiles nothing",
            "install the whole of it: see engines/README.md",
        )
    if device is not None:
        return Target(api, device, ())
    return Target(api, None, _checked_gpus(api, options.gpus))


def _device_at_hand(device_id: int) -> cuda_driver.Device:
    try:
        return cuda_driver.device(device_id)
    except cuda_driver.CudaError as error:
        raise BundleError(
            f"TensorRT compiles on the GPU that will run the bundle: {error}",
            "--onnx-only here, then `python -m unirestore_ros build FOLDER` on the vehicle; "
            "for an RTX card --backend tensorrt_rtx, which compiles anywhere",
        ) from error


def _checked_gpus(api: TensorRT, gpus: Sequence[str]) -> tuple[str, ...]:
    known = api.compute_capabilities()
    for gpu in gpus:
        if gpu not in known:
            raise BundleError(
                f"{api.product} compiles for compute capability {', '.join(known)}, not for {gpu}",
                "a Jetson and data-centre cards take --backend tensorrt, compiled on them",
            )
    return tuple(sorted(set(gpus), key=known.index))
