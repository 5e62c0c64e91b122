"""Device memory, pinned host memory, a stream and captured graphs, through cuda-python alone."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unirestore_ros.engine.backends.tensorrt_versions import cudart
from unirestore_ros.engine.backends.wiring import Kind
from unirestore_ros.engine.errors import InferenceError

ITEM_BYTES = {"bfloat16": 2}
"""Of types that NumPy does not have."""


def ask(answer: tuple[Any, ...]) -> Any:
    """What a call of the CUDA run-time returned beside its status, if that is success."""
    status, *values = answer
    if int(status) != 0:
        _, text = cudart.cudaGetErrorString(status)
        raise InferenceError(f"CUDA error {int(status)}: {text.decode()}")
    return values[0] if values else None


def bytes_of(kind: Kind) -> int:
    size = ITEM_BYTES.get(kind.dtype) or np.dtype(kind.dtype).itemsize
    return size * math.prod(kind.shape)


class DeviceMemory:
    """A block of device memory for a tensor; freed with this object."""

    def __init__(self, kind: Kind) -> None:
        self.kind, self.size = kind, bytes_of(kind)
        self.address = int(ask(cudart.cudaMalloc(self.size)))

    def __del__(self) -> None:
        if hasattr(self, "address"):
            cudart.cudaFree(self.address)


class PinnedMemory:
    """Page-locked host memory and a view of it as an array; freed with this object and the view."""

    def __init__(self, kind: Kind) -> None:
        self.size = bytes_of(kind)
        self.address = int(ask(cudart.cudaMallocHost(self.size)))
        block = (ctypes.c_uint8 * self.size).from_address(self.address)
        # What is a view of the block keeps the block alive, and the block keeps this object.
        block._owner = self  # type: ignore[attr-defined]
        self._view = np.frombuffer(memoryview(block), np.dtype(kind.dtype)).reshape(kind.shape)

    def array(self) -> NDArray[Any]:
        return self._view

    def __del__(self) -> None:
        if hasattr(self, "address"):
            cudart.cudaFreeHost(self.address)


class Stream:
    """A CUDA stream of the current device: copies, runs and graphs go through it in order."""

    def __init__(self) -> None:
        self.handle = int(ask(cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking)))

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            cudart.cudaStreamDestroy(self.handle)

    def wait(self) -> None:
        ask(cudart.cudaStreamSynchronize(self.handle))

    def upload(self, source: PinnedMemory, target: DeviceMemory) -> None:
        self._copy(target.address, source.address, target.size, "cudaMemcpyHostToDevice")

    def download(self, source: DeviceMemory, target: PinnedMemory) -> None:
        self._copy(target.address, source.address, source.size, "cudaMemcpyDeviceToHost")

    def copy(self, source: DeviceMemory, target: DeviceMemory) -> None:
        self._copy(target.address, source.address, source.size, "cudaMemcpyDeviceToDevice")

    def _copy(self, target: int, source: int, size: int, direction: str) -> None:
        kind = getattr(cudart.cudaMemcpyKind, direction)
        ask(cudart.cudaMemcpyAsync(target, source, size, kind, self.handle))

    def captured(self, work: Callable[[], None]) -> Graph:
        """What ``work`` puts on this stream, recorded instead of run."""
        with self._capturing() as recorded:
            work()
        return Graph(recorded[0], self)

    @contextmanager
    def _capturing(self) -> Iterator[list[Any]]:
        recorded: list[Any] = []
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        ask(cudart.cudaStreamBeginCapture(self.handle, mode))
        try:
            yield recorded
        finally:
            answer = cudart.cudaStreamEndCapture(self.handle)
        recorded.append(ask(answer))


class Graph:
    """A captured CUDA graph, launched on the stream that it was captured on."""

    def __init__(self, recorded: Any, stream: Stream) -> None:
        self._stream = stream
        self._graph = ask(cudart.cudaGraphInstantiate(recorded, 0))
        ask(cudart.cudaGraphDestroy(recorded))

    def __del__(self) -> None:
        if hasattr(self, "_graph"):
            cudart.cudaGraphExecDestroy(self._graph)

    def launch(self) -> None:
        ask(cudart.cudaGraphLaunch(self._graph, self._stream.handle))
