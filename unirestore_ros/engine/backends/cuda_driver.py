"""What the CUDA driver says of the devices, asked without any package and without a context.

Before TensorRT is touched this must be asked: without a driver its run-time ends the process with a
segmentation fault. Source of the calls and numbers: CUDA Driver API, cuda.h.
"""

from __future__ import annotations

import ctypes
import dataclasses

LIBRARY = "libcuda.so.1"
_NAME_BYTES = 256
_COMPUTE_CAPABILITY = (75, 76)
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""


class CudaError(RuntimeError):
    """There is no CUDA device to use: what is missing."""


@dataclasses.dataclass(frozen=True)
class Device:
    """A GPU, by the name that its driver gives it."""

    number: int
    name: str
    compute_capability: str


def device(number: int) -> Device:
    """The device of that number; CudaError where there is no driver or no such device."""
    driver = _driver()
    count = ctypes.c_int()
    _ask(driver, "cuDeviceGetCount", ctypes.byref(count))
    if not 0 <= number < count.value:
        raise CudaError(f"there is no CUDA device {number}: the driver has {count.value}")
    handle = ctypes.c_int()
    _ask(driver, "cuDeviceGet", ctypes.byref(handle), number)
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _ask(driver, "cuDeviceGetName", name, _NAME_BYTES, handle)
    capability = []
    for attribute in _COMPUTE_CAPABILITY:
        value = ctypes.c_int()
        _ask(driver, "cuDeviceGetAttribute", ctypes.byref(value), attribute, handle)
        capability.append(str(value.value))
    return Device(number, name.value.decode(), ".".join(capability))


def _driver() -> ctypes.CDLL:
    try:
        driver = ctypes.CDLL(LIBRARY)
    except OSError:
        raise CudaError(f"there is no CUDA driver ({LIBRARY} is not found)") from None
    _ask(driver, "cuInit", 0)
    return driver


def _ask(driver: ctypes.CDLL, function: str, *arguments: object) -> None:
    status = getattr(driver, function)(*arguments)
    if status != 0:
        raise CudaError(
            f"the CUDA driver answers {function} with error {status}{_text(driver, status)}"
        )


def _text(driver: ctypes.CDLL, status: int) -> str:
    text = ctypes.c_char_p()
    known = driver.cuGetErrorString(status, ctypes.byref(text)) == 0 and text.value
    return f" ({text.value.decode()})" if known and text.value else ""
