"""The machine: processor, shared memory and sockets that carry images, NVIDIA GPU."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from pathlib import Path

from unirestore_ros.doctor.finding import ERROR, NOTE, OK, Finding

SHARED_MEMORY = Path("/dev/shm")
SOCKET_BUFFERS = Path("/proc/sys/net/core")
_DEVICE_MODEL = Path("/proc/device-tree/model")  # names a Jetson
_DRIVER_VERSION = Path("/proc/driver/nvidia/version")

# A segment of config/fastdds.xml for each of a few processes.
_MIN_SHARED_BYTES = 256 << 20
# A 1080p image in fragments, with room for its neighbours.
_MIN_SOCKET_BYTES = 4 << 20

_CUDA_DRIVER = "libcuda.so.1"
# CUdevice_attribute in cuda.h.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


def check_machine() -> Finding:
    """Name the machine that the other lines are about; always ok."""
    kind = platform.machine()
    if _DEVICE_MODEL.exists():
        kind = _DEVICE_MODEL.read_text(encoding="utf-8", errors="replace").rstrip("\0\n")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    python = platform.python_version()
    return Finding("machine", OK, f"{platform.system()} {kind}, {cores} cores, Python {python}")


def check_shared_memory(folder: Path = SHARED_MEMORY) -> Finding:
    """Check for room: Fast DDS passes images through files there."""
    check = "shared memory"
    if not folder.is_dir():
        return Finding(check, NOTE, f"there is no {folder}", "images go over UDP, which is slower")
    status = os.statvfs(folder)
    size, free = (blocks * status.f_frsize for blocks in (status.f_blocks, status.f_bavail))
    found = f"{folder} has {free >> 20} of {size >> 20} MiB free"
    if free >= _MIN_SHARED_BYTES:
        return Finding(check, OK, found)
    advice = f"images need {_MIN_SHARED_BYTES >> 20} MiB: "
    if size < _MIN_SHARED_BYTES:
        advice += "in a container, docker run --shm-size=1g or --ipc=host"
    else:
        advice += "remove what processes that died left there (fastdds shm clean)"
    return Finding(check, NOTE, found, advice)


def check_socket_buffers(folder: Path = SOCKET_BUFFERS) -> Finding:
    """Check what limits images between machines, and on one machine without shared memory."""
    check = "socket buffers"
    try:
        sizes = {name: int((folder / name).read_text()) for name in ("rmem_max", "wmem_max")}
    except OSError as error:
        return Finding(check, NOTE, f"unknown: {error}")
    found = ", ".join(f"net.core.{name} = {size}" for name, size in sizes.items())
    small = [name for name, size in sizes.items() if size < _MIN_SOCKET_BYTES]
    if not small:
        return Finding(check, OK, found)
    settings = " ".join(f"net.core.{name}={_MIN_SOCKET_BYTES}" for name in small)
    return Finding(
        check, NOTE, found, f"where images come from another machine: sudo sysctl -w {settings}"
    )


def check_gpu() -> Finding:
    """Ask the driver itself, which everything that uses a GPU needs."""
    check = "GPU"
    try:
        driver = ctypes.CDLL(_CUDA_DRIVER)
    except OSError:
        return Finding(check, NOTE, "no NVIDIA driver", "the network runs on the CPU")
    if (code := driver.cuInit(0)) != 0:
        advice = "see nvidia-smi; in a container, start it with --gpus all"
        return Finding(
            check, ERROR, f"the NVIDIA driver does not start (CUDA error {code})", advice
        )
    version, count = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    driver.cuDeviceGetCount(ctypes.byref(count))
    if count.value == 0:
        return Finding(check, NOTE, "an NVIDIA driver without a GPU", "the network runs on the CPU")
    cuda = f"driver {driver_version()}for CUDA {version.value // 1000}.{version.value % 1000 // 10}"
    names = "; ".join(_gpu_name(driver, number) for number in range(count.value))
    return Finding(check, OK, f"{names}; {cuda}")


def driver_version(file: Path = _DRIVER_VERSION) -> str:
    """Read the version of the kernel's module, with a space after it; empty on a Jetson."""
    try:
        found = re.search(r"\s(\d+\.\d[\d.]*)\s", file.read_text(encoding="utf-8"))
    except OSError:
        return ""
    return f"{found[1]} " if found else ""


def _gpu_name(driver: ctypes.CDLL, number: int) -> str:
    name, device, size = ctypes.create_string_buffer(256), ctypes.c_int(), ctypes.c_size_t()
    driver.cuDeviceGet(ctypes.byref(device), number)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    capability = []
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability.append(str(value.value))
    memory = size.value / (1 << 30)
    return f"{name.value.decode()} ({memory:.0f} GiB, compute capability {'.'.join(capability)})"
