"""The ``tensorrt`` backend: three engines, device memory and streams through cuda-python, no torch.

Import it only where ``tensorrt_binding`` found the device that the bundle was compiled for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from unirestore_ros.engine.backends.cuda_memory import (
    DeviceMemory,
    PinnedMemory,
    Stream,
    ask,
)
from unirestore_ros.engine.backends.tensorrt_binding import check_version
from unirestore_ros.engine.backends.tensorrt_versions import VERSION, cudart, trt
from unirestore_ros.engine.backends.wiring import (
    Kind,
    PartFile,
    feature_kind,
    frame_kind,
    prompt_kind,
)
from unirestore_ros.engine.bundle import Bundle
from unirestore_ros.engine.errors import InferenceError
from unirestore_ros.engine.manifest import ENGINE_TENSOR

Memories = dict[str, DeviceMemory]
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
_log = logging.getLogger(__name__)


class TensorRTBackend:
    """Everything is allocated when it is opened, at addresses that never change: each part is one
    CUDA graph, captured after a warm run. A task's prompt is copied into the fixed one that the
    graphs read, and its features out into a pinned host buffer of its own.
    """

    name = "tensorrt"

    def __init__(self, bundle: Bundle, device_id: int = 0) -> None:
        check_version(bundle, VERSION)
        self.precision = bundle.manifest.precision
        self._device_id = device_id
        ask(cudart.cudaSetDevice(device_id))
        self._stream = stream = Stream()
        self._logger = _Logger()  # must outlive what it is given to
        runtime = trt.Runtime(self._logger)
        trunk, decoder, adapter = (
            _Part(bundle, part, runtime) for part in ("trunk", "decoder", "adapter")
        )
        frame, features = frame_kind(bundle), feature_kind(bundle)
        trunk.file.expect("frame", trunk.inputs, frame)
        decoder.file.expect("image", decoder.outputs, frame)
        adapter.file.expect("features", adapter.outputs, features)

        self._host_frame = PinnedMemory(frame)
        self._memories = {"frame": DeviceMemory(frame), "prompt": DeviceMemory(prompt_kind(bundle))}
        self._prompts = {task: self._resident(prompt) for task, prompt in bundle.prompts.items()}
        for part in (trunk, decoder, adapter):
            part.bind(self._memories)
        self._trunk = trunk.captured(stream)
        self._decoder, self._adapter = decoder.captured(stream), adapter.captured(stream)
        self._parts = (runtime, trunk, decoder, adapter)  # the graphs run in their memory
        self._image = PinnedMemory(frame)
        self._features = {task: PinnedMemory(features) for task in bundle.prompts}

    def run_trunk(self, frame: NDArray[np.uint8]) -> None:
        ask(cudart.cudaSetDevice(self._device_id))  # holds for the calling thread only
        self._host_frame.array()[0] = frame
        self._stream.upload(self._host_frame, self._memories["frame"])
        self._trunk()
        self._stream.wait()  # the pinned frame may be written again, and an error is this part's

    def decode(self, task: str) -> NDArray[np.uint8]:
        return self._fetch(self._decoder, task, "image", self._image)

    def adapt(self, task: str) -> NDArray[np.float32]:
        return self._fetch(self._adapter, task, "features", self._features[task])

    def _fetch(
        self, run: Callable[[], None], task: str, output: str, host: PinnedMemory
    ) -> NDArray[Any]:
        ask(cudart.cudaSetDevice(self._device_id))
        self._stream.copy(self._prompts[task], self._memories["prompt"])
        run()
        self._stream.download(self._memories[output], host)
        self._stream.wait()
        array = host.array()[0]
        array.flags.writeable = False
        return array

    def _resident(self, prompt: NDArray[np.float32]) -> DeviceMemory:
        kind = Kind("float32", (1, *prompt.shape))
        host, device = PinnedMemory(kind), DeviceMemory(kind)
        host.array()[0] = prompt
        self._stream.upload(host, device)
        self._stream.wait()
        return device


class _Part:
    """An engine, its context, and the tensors that it declares, by name."""

    def __init__(self, bundle: Bundle, part: str, runtime: trt.Runtime) -> None:
        self.file = PartFile(bundle, f"tensorrt/{part}.engine.safetensors")
        engine = runtime.deserialize_cuda_engine(self._read(bundle))
        if engine is None:
            self.file.refuse(f"TensorRT {VERSION} cannot load it")
        self._engine = engine
        self._context = engine.create_execution_context()
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        kinds = {name: self._kind(name) for name in names}
        given = {n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT}
        self.inputs = {name: kind for name, kind in kinds.items() if name in given}
        self.outputs = {name: kind for name, kind in kinds.items() if name not in given}

    def _read(self, bundle: Bundle) -> bytes:
        try:
            with safe_open(bundle.folder / self.file.path, framework="numpy") as file:
                content: bytes = file.get_tensor(ENGINE_TENSOR).tobytes()
                return content
        except SafetensorError as error:
            self.file.refuse(f"it is not an engine: {error}")

    def _kind(self, name: str) -> Kind:
        dtype = self._engine.get_tensor_dtype(name).name
        if dtype not in _DTYPES:
            self.file.refuse(f"{name} is {dtype}, which no part exchanges")
        shape = self._engine.get_tensor_shape(name)
        return Kind(_DTYPES[dtype], tuple(shape[i] for i in range(len(shape))))

    def bind(self, memories: Memories) -> None:
        """Read inputs from the memories of their names, and add one for each output."""
        self.file.check_sources(self.inputs, {n: m.kind for n, m in memories.items()})
        for name, kind in self.outputs.items():
            memories[name] = DeviceMemory(kind)
        for name in (*self.inputs, *self.outputs):
            if not self._context.set_tensor_address(name, memories[name].address):
                self.file.refuse(f"TensorRT does not take an address for {name}")

    def captured(self, stream: Stream) -> Callable[[], None]:
        """The part as one CUDA graph; TensorRT sets itself up in the run before."""

        def enqueue() -> None:
            if not self._context.execute_async_v3(stream.handle):
                raise InferenceError(f"{self.file.path}: TensorRT did not run it")

        enqueue()
        stream.wait()
        graph = stream.captured(enqueue)

        def run() -> None:
            try:
                graph.launch()
            except InferenceError as error:
                raise InferenceError(f"{self.file.path}: {error}") from error

        return run


class _Logger(trt.ILogger):
    """TensorRT's messages in Python's log."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        _log.log(log_level(severity), "TensorRT: %s", msg)


def log_level(severity: trt.ILogger.Severity) -> int:
    levels: Mapping[str, int] = {
        "INTERNAL_ERROR": logging.ERROR,
        "ERROR": logging.ERROR,
        "WARNING": logging.WARNING,
    }
    return levels.get(severity.name, logging.DEBUG)
