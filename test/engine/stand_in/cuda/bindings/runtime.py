"""CUDA's run-time on host memory, as far as the package uses it: nothing on a stream happens before
somebody waits for it, fresh memory is full of rubbish, and a copy out of bounds is an error."""

import ctypes
import enum
import itertools

cudaStreamNonBlocking = 1
DEVICE_BYTES = 64 << 20
_blocks = {}
_streams = {}
_graphs = {}
_numbers = itertools.count(1)


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2


class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


OK, WRONG = (cudaError_t.cudaSuccess,), (cudaError_t.cudaErrorInvalidValue, None)


class _Stream:
    def __init__(self):
        self.queue, self.recording = [], None


def enqueue(stream, work):
    """Put work on a stream, or on the record that is made of it."""
    target = _streams[stream]
    (target.queue if target.recording is None else target.recording).append(work)


def cudaGetErrorString(error):
    return (cudaError_t.cudaSuccess, error.name.encode())


def cudaSetDevice(number):
    return OK if number == 0 else WRONG


def _allocate(size):
    if size + sum(map(len, _blocks.values())) > DEVICE_BYTES:
        return (cudaError_t.cudaErrorMemoryAllocation, None)
    block = (ctypes.c_uint8 * size)()
    ctypes.memset(block, 0xAB, size)
    _blocks[ctypes.addressof(block)] = block
    return (cudaError_t.cudaSuccess, ctypes.addressof(block))


cudaMalloc = cudaMallocHost = _allocate


def cudaFree(address):
    del _blocks[address]
    return OK


cudaFreeHost = cudaFree


def cudaStreamCreateWithFlags(flags):
    number = next(_numbers)
    _streams[number] = _Stream()
    return (cudaError_t.cudaSuccess, number)


def cudaStreamDestroy(stream):
    del _streams[stream]
    return OK


def cudaStreamSynchronize(stream):
    queue = _streams[stream].queue
    while queue:
        queue.pop(0)()
    return OK


def cudaMemcpyAsync(target, source, size, kind, stream):
    if any(len(_blocks.get(address, ())) < size for address in (target, source)):
        return WRONG
    enqueue(stream, lambda: ctypes.memmove(target, source, size))
    return OK


def cudaStreamBeginCapture(stream, mode):
    _streams[stream].recording = []
    return OK


def cudaStreamEndCapture(stream):
    recorded, _streams[stream].recording = _streams[stream].recording, None
    return (cudaError_t.cudaSuccess, recorded)


def cudaGraphInstantiate(recorded, flags):
    number = next(_numbers)
    _graphs[number] = list(recorded)
    return (cudaError_t.cudaSuccess, number)


def cudaGraphDestroy(recorded):
    return OK


def cudaGraphExecDestroy(graph):
    del _graphs[graph]
    return OK


def cudaGraphLaunch(graph, stream):
    for work in _graphs[graph]:
        enqueue(stream, work)
    return OK
