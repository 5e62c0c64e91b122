"""What the CUDA driver says of the devices, and whether a bundle was compiled for them.

The driver is called through ctypes: no package, no context. It must be called before TensorRT is
touched, whose run-time ends the process with a segmentation fault where there is no driver. Source
of the calls and numbers: CUDA Driver API, cuda.h.
"""

from __future__ import annotations

import ctypes
import dataclasses

from unirestore_ros.engine.bundle import Bundle, BundleError

LIBRARY = "libcuda.so.1"
_NAME_BYTES = 256
_COMPUTE_CAPABILITY = (75, 76)
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""


RTX_CARDS = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""Compute capabilities that TensorRT for RTX 1.7 compiles for: no Jetson, no Hopper."""


class CudaError(RuntimeError):
    """There is no CUDA device to use: what is missing."""


@dataclasses.dataclass(frozen=True)
class Device:
    """A GPU, by the name that its driver gives it."""

    number: int
    name: str
    compute_capability: str


def device(number: int) -> Device:
    """Return the device of that number; CudaError where there is no driver or no such device."""
    driver = _driver()
    count = ctypes.c_int()
    _call(driver, "cuDeviceGetCount", ctypes.byref(count))
    if not 0 <= number < count.value:
        raise CudaError(f"there is no CUDA device {number}: the driver has {count.value}")
    handle = ctypes.c_int()
    _call(driver, "cuDeviceGet", ctypes.byref(handle), number)
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _call(driver, "cuDeviceGetName", name, _NAME_BYTES, handle)
    capability = []
    for attribute in _COMPUTE_CAPABILITY:
        value = ctypes.c_int()
        _call(driver, "cuDeviceGetAttribute", ctypes.byref(value), attribute, handle)
        capability.append(str(value.value))
    return Device(number, name.value.decode(), ".".join(capability))


def _driver() -> ctypes.CDLL:
    try:
        driver = ctypes.CDLL(LIBRARY)
    except OSError:
        raise CudaError(f"there is no NVIDIA driver ({LIBRARY} is not found)") from None
    _call(driver, "cuInit", 0)
    return driver


def _call(driver: ctypes.CDLL, function: str, *arguments: object) -> None:
    status = getattr(driver, function)(*arguments)
    if status != 0:
        raise CudaError(
            f"the CUDA driver answers {function} with error {status}{_text(driver, status)}"
        )


def _text(driver: ctypes.CDLL, status: int) -> str:
    text = ctypes.c_char_p()
    known = driver.cuGetErrorString(status, ctypes.byref(text)) == 0 and text.value
    return f" ({text.value.decode()})" if known and text.value else ""


def device_for(bundle: Bundle, backend: str, device_id: int) -> Device:
    """Return the device if the bundle was compiled for it; BundleError otherwise."""
    try:
        found = device(device_id)
    except CudaError as error:
        raise BundleError(
            f"bundle {bundle.folder}: backend {backend}: {error}", "python -m unirestore_ros doctor"
        ) from error
    check_device(bundle, backend, found)
    return found


def check_device(bundle: Bundle, backend: str, device: Device) -> None:
    """Compare the GPU that the bundle was compiled for with this one; BundleError if another."""
    info = bundle.manifest.backends[backend]
    if info.version is None:
        raise BundleError(
            f"bundle {bundle.folder}: its {backend} parts are exported and not compiled",
            compile_command(bundle, backend),
        )
    if info.gpu is not None and info.gpu != device.name:
        _refuse(bundle, backend, "gpu", info.gpu, device.name)
    built_for = info.compute_capability or ""
    if device.compute_capability not in built_for.split(", "):
        _refuse(bundle, backend, "compute_capability", built_for, device.compute_capability)


def check_version(bundle: Bundle, backend: str, version: str) -> None:
    """Compare the TensorRT that compiled the bundle with this one; BundleError if another."""
    built_with = bundle.manifest.backends[backend].version
    if built_with != version:
        _refuse(bundle, backend, "version", built_with, version)


def _refuse(bundle: Bundle, backend: str, field: str, built_for: str | None, found: str) -> None:
    raise BundleError(
        f"bundle {bundle.folder}: backends.{backend}.{field}: it was compiled for {built_for}, "
        f"here is {found}",
        compile_command(bundle, backend, found if field == "compute_capability" else None),
    )


def compile_command(bundle: Bundle, backend: str, capability: str | None = None) -> str:
    """Return the command that compiles the bundle's ONNX files for this machine."""
    command = f"python -m unirestore_ros build {bundle.folder}"
    if backend == "tensorrt":
        return command
    if capability is None or capability in RTX_CARDS:
        return command + (f" --gpu {capability}" if capability else "")
    return (
        f"TensorRT for RTX is for compute capability {', '.join(RTX_CARDS)}: "
        + bundle.build_command("--backend", "tensorrt")
    )
