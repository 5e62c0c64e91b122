"""Backends run the three parts of a bundle; which one is decided without importing any of them."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unirestore_ros.engine.backends import cuda_driver
from unirestore_ros.engine.backends.cuda_driver import compile_command, device_for
from unirestore_ros.engine.backends.tensorrt_versions import MODULES
from unirestore_ros.engine.bundle import Bundle, BundleError
from unirestore_ros.engine.manifest import BACKENDS
from unirestore_ros.engine.working_size import Size

AUTO = "auto"
RUNNABLE = (*BACKENDS[:-1], "openvino", BACKENDS[-1])
"""In the order in which ``auto`` tries them."""
_BUILT_AS = {"openvino": "onnxruntime"}
"""Whose parts a backend runs that has none of its own."""
_NEEDS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    **{name: (modules, ("cuda.bindings", "cuda.cudart")) for name, modules in MODULES.items()},
    "torch": (("torch",),),
    "openvino": (("openvino",),),
    "onnxruntime": (("onnxruntime",),),
}
"""The Python modules that each backend needs; of those in one bracket, any."""
_WHEELS = {"cuda.bindings": "cuda-python", "tensorrt_rtx_bindings": "tensorrt-rtx-cu12-bindings"}
_INSTALL = {
    "tensorrt": "see engines/README.md: TensorRT comes with JetPack, or from NVIDIA",
    _WHEELS["tensorrt_rtx_bindings"]: "python -m pip install tensorrt-rtx-cu12-libs "
    "tensorrt-rtx-cu12-bindings, of one version",
}


class Backend(Protocol):
    """Three compiled parts and the tensors between them. One thread at a time."""

    name: str
    precision: Mapping[str, str]
    """By part: what it computes in."""
    size: Size
    """The padded working size (width, height) that the parts are pinned to."""
    gives_gain: bool
    """Whether ``decode`` computes the detail gain of a network that predicts one."""

    def pin(self, size: Size, gain: bool = True) -> None:
        """Pin the parts to another padded working size; where that fails, nothing changes.

        ``gain``: whether the detail gain is needed. It may be computed where it is not: a backend
        leaves it out where that saves time.
        """

    def run_trunk(self, frame: NDArray[np.uint8]) -> None:
        """Take in an RGB frame (h, w, 3) of ``size``, which is copied, and run what no prompt
        touches."""

    def decode(self, task: str) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        """Compute the last frame's RGB image (h, w, 3) and, where the network predicts it, the
        detail gain (h, w, 1); valid until the next ``decode``."""

    def adapt(self, task: str) -> NDArray[np.float32]:
        """Compute features (h/s, w/s, c) of the last frame; valid until the task's next
        ``adapt``."""

    def close(self) -> None:
        """Free what would otherwise stay until Python's garbage collector finds it."""


def open_backend(
    bundle: Bundle, backend: str, device_id: int, threads: int, size: Size, gain: bool = True
) -> Backend:
    """Load the parts with the backend of that name, or with the first that ``auto`` finds, pinned
    to a padded working size; ``gain``: as in ``Backend.pin``."""
    name = choose_backend(bundle, backend, device_id)
    if name in MODULES:  # before TensorRT is touched: without a driver it crashes
        card = device_for(bundle, name, device_id)
    if missing := missing_package(name):
        raise BundleError(
            f"bundle {bundle.folder}: backend {name} needs the Python package {missing}",
            install_advice(missing),
        )
    if name in MODULES:
        from unirestore_ros.engine.backends.tensorrt_backend import open_tensorrt

        return open_tensorrt(bundle, name, card, size)
    if name == "torch":
        from unirestore_ros.engine.backends.torch_backend import TorchBackend

        return TorchBackend(bundle, device_id, threads, size)
    if name == "openvino":
        from unirestore_ros.engine.backends.openvino_backend import OpenVinoBackend

        return OpenVinoBackend(bundle, threads, size, gain)
    from unirestore_ros.engine.backends.onnx_runtime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(bundle, device_id, threads, size, gain)


def choose_backend(bundle: Bundle, requested: str, device_id: int = 0) -> str:
    """Choose the name of the backend to use; BundleError where the bundle or this version does not
    hold it."""
    if requested == AUTO:
        return runnable_here(bundle, device_id)[0]
    if requested not in RUNNABLE:
        raise BundleError(
            f"backend {requested!r} is not known", f"choose one of {', '.join((AUTO, *RUNNABLE))}"
        )
    if built_as(requested) not in bundle.manifest.backends:
        raise BundleError(
            f"bundle {bundle.folder}: it is not built for backend {requested}, "
            f"but for {', '.join(bundle.manifest.backends) or 'none'}",
            bundle.build_command("--backend", built_as(requested)),
        )
    return requested


def built_as(name: str) -> str:
    """Return the backend that a bundle must be built for to run on that of this name."""
    return _BUILT_AS.get(name, name)


def backends_here(bundle: Bundle, device_id: int = 0) -> dict[str, str | None]:
    """Say for each backend that the bundle is built for why it does not run here; None: it does."""
    held = [name for name in RUNNABLE if built_as(name) in bundle.manifest.backends]
    return {name: _obstacle(name, bundle, device_id) for name in held}


def runnable_here(bundle: Bundle, device_id: int = 0) -> list[str]:
    """List the backends that run the bundle here, in the order of ``auto``; BundleError, with the
    reason for each, where none does."""
    obstacles = backends_here(bundle, device_id)
    found = [name for name, why in obstacles.items() if why is None]
    if found:
        return found
    reasons = "; ".join(f"{name}: {why}" for name, why in obstacles.items())
    raise BundleError(
        f"bundle {bundle.folder}: no backend that it is built for runs here: {reasons or 'none'}",
        bundle.build_command("--backend", "onnxruntime"),
    )


def _obstacle(name: str, bundle: Bundle, device_id: int) -> str | None:
    """Say why a backend does not run here by itself; found without importing any of them."""
    if name in MODULES and bundle.manifest.backends[name].version is None:
        return f"exported and not compiled ({compile_command(bundle, name)})"
    if built_as(name) != "onnxruntime":
        try:
            cuda_driver.device(device_id)
        except cuda_driver.CudaError as error:
            return str(error)
    if missing := missing_package(name):
        return f"the Python package {missing} is not installed"
    return _why_not_openvino(device_id) if name == "openvino" else None


def _why_not_openvino(device_id: int) -> str | None:
    """Without bfloat16 it is taken only when named: it gains less there, and needs more memory.
    Beside CUDA it is slower."""
    if not has_bfloat16():
        return "the processor has no bfloat16, without which it is taken only when named"
    if _is_distributed("onnxruntime-gpu"):
        with contextlib.suppress(cuda_driver.CudaError):
            return f"ONNX Runtime runs on the {cuda_driver.device(device_id).name}"
    return None


def _is_distributed(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@functools.cache
def has_bfloat16() -> bool:
    """Tell whether the processor multiplies in bfloat16, by the flags that Linux lists."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16"} & {*flags.split()})


def install_advice(package: str) -> str:
    """Say how to install a package that ``missing_package`` named."""
    return _INSTALL.get(package, f"python -m pip install {package}")


def missing_package(name: str) -> str | None:
    """A package that a backend needs and that is not installed, as pip calls it."""
    return next(filter(None, map(_missing, _NEEDS[name])), None)


def missing_module(name: str) -> str | None:
    """A package that holds a backend's TensorRT, which alone compiling needs, if none is there."""
    return _missing(MODULES[name])


def _missing(any_of: tuple[str, ...]) -> str | None:
    return None if any(map(_is_installed, any_of)) else _WHEELS.get(any_of[0], any_of[0])


def _is_installed(module: str) -> bool:
    """Found, and more than a folder of that name, as type stubs leave it."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return False
    return spec is not None and spec.origin is not None
