"""Device memory, pinned host memory, a stream and captured graphs, through cuda-python alone."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unirestore_ros.engine.backends.parts import TensorSpec
from unirestore_ros.engine.backends.tensorrt_versions import load_cudart
from unirestore_ros.engine.bundle import InferenceError

cudart = load_cudart()
ITEM_BYTES = {"bfloat16": 2}
"""Bytes of the data types that NumPy does not have."""


def check_cuda(answer: tuple[Any, ...]) -> Any:
    """Return what a call of the CUDA run-time gave beside its status; InferenceError on failure."""
    status, *values = answer
    if int(status) != 0:
        _, text = cudart.cudaGetErrorString(status)
        raise InferenceError(f"CUDA error {int(status)}: {text.decode()}")
    return values[0] if values else None


def bytes_of(spec: TensorSpec) -> int:
    size = ITEM_BYTES.get(spec.dtype) or np.dtype(spec.dtype).itemsize
    return size * math.prod(spec.shape)


class DeviceMemory:
    """A block of device memory for a tensor; freed with this object."""

    def __init__(self, spec: TensorSpec) -> None:
        self.spec, self.size = spec, bytes_of(spec)
        self.address = int(check_cuda(cudart.cudaMalloc(self.size)))

    def __del__(self) -> None:
        if hasattr(self, "address"):
            cudart.cudaFree(self.address)


class PinnedMemory:
    """Page-locked host memory and a view of it as an array; freed with this object and the view."""

    def __init__(self, spec: TensorSpec) -> None:
        self.size = bytes_of(spec)
        self.address = int(check_cuda(cudart.cudaMallocHost(self.size)))
        block = (ctypes.c_uint8 * self.size).from_address(self.address)
        # What is a view of the block keeps the block alive, and the block keeps this object.
        block._owner = self  # type: ignore[attr-defined]
        self._view = np.frombuffer(memoryview(block), np.dtype(spec.dtype)).reshape(spec.shape)

    def array(self) -> NDArray[Any]:
        return self._view

    def __del__(self) -> None:
        if hasattr(self, "address"):
            cudart.cudaFreeHost(self.address)


class Stream:
    """A CUDA stream of the current device: copies, runs and graphs go through it in order."""

    def __init__(self) -> None:
        self.handle = int(
            check_cuda(cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking))
        )

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            cudart.cudaStreamDestroy(self.handle)

    def wait(self) -> None:
        check_cuda(cudart.cudaStreamSynchronize(self.handle))

    def upload(self, source: PinnedMemory, target: DeviceMemory) -> None:
        self._copy(target.address, source.address, target.size, "cudaMemcpyHostToDevice")

    def download(self, source: DeviceMemory, target: PinnedMemory) -> None:
        self._copy(target.address, source.address, source.size, "cudaMemcpyDeviceToHost")

    def copy(self, source: DeviceMemory, target: DeviceMemory) -> None:
        self._copy(target.address, source.address, source.size, "cudaMemcpyDeviceToDevice")

    def _copy(self, target: int, source: int, size: int, direction: str) -> None:
        kind = getattr(cudart.cudaMemcpyKind, direction)
        check_cuda(cudart.cudaMemcpyAsync(target, source, size, kind, self.handle))

    def captured(self, work: Callable[[], None]) -> Graph:
        """Record what ``work`` puts on this stream, instead of running it."""
        with self._capturing() as recorded:
            work()
        return Graph(recorded[0], self)

    @contextmanager
    def _capturing(self) -> Iterator[list[Any]]:
        recorded: list[Any] = []
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        check_cuda(cudart.cudaStreamBeginCapture(self.handle, mode))
        try:
            yield recorded
        finally:
            answer = cudart.cudaStreamEndCapture(self.handle)
        recorded.append(check_cuda(answer))


class Graph:
    """A captured CUDA graph, launched on the stream that it was captured on."""

    def __init__(self, recorded: Any, stream: Stream) -> None:
        self._stream = stream
        self._graph = check_cuda(cudart.cudaGraphInstantiate(recorded, 0))
        check_cuda(cudart.cudaGraphDestroy(recorded))

    def __del__(self) -> None:
        if hasattr(self, "_graph"):
            cudart.cudaGraphExecDestroy(self._graph)

    def launch(self) -> None:
        check_cuda(cudart.cudaGraphLaunch(self._graph, self._stream.handle))
