"""An engine is bound to a GPU and to a version of TensorRT; whether they are here is asked before
TensorRT is touched."""

from __future__ import annotations

from unirestore_ros.engine.backends import cuda_driver
from unirestore_ros.engine.bundle import Bundle
from unirestore_ros.engine.errors import BundleError


def device_for(bundle: Bundle, device_id: int) -> cuda_driver.Device:
    """The device that the bundle was compiled for; BundleError where it is not this one."""
    try:
        device = cuda_driver.device(device_id)
    except cuda_driver.CudaError as error:
        raise BundleError(
            f"bundle {bundle.folder}: backend tensorrt: {error}", "python -m unirestore_ros doctor"
        ) from error
    check_device(bundle, device)
    return device


def check_device(bundle: Bundle, device: cuda_driver.Device) -> None:
    info = bundle.manifest.backends["tensorrt"]
    if info.gpu is None:
        raise BundleError(
            f"bundle {bundle.folder}: its tensorrt parts are exported and not compiled",
            compile_command(bundle),
        )
    for field, built_for, found in (
        ("gpu", info.gpu, device.name),
        ("compute_capability", info.compute_capability, device.compute_capability),
    ):
        if built_for != found:
            _refuse(bundle, field, built_for, found)


def check_version(bundle: Bundle, version: str) -> None:
    built_with = bundle.manifest.backends["tensorrt"].version
    if built_with != version:
        _refuse(bundle, "version", built_with, version)


def _refuse(bundle: Bundle, field: str, built_for: str | None, found: str) -> None:
    raise BundleError(
        f"bundle {bundle.folder}: backends.tensorrt.{field}: it was compiled for {built_for}, "
        f"here is {found}",
        compile_command(bundle),
    )


def compile_command(bundle: Bundle) -> str:
    """What compiles the bundle's own ONNX files for this machine, without PyTorch."""
    return f"python -m unirestore_ros build {bundle.folder}"
