"""The ``tensorrt`` backend: three engines, device memory and streams through cuda-python, no torch.

Import it only where ``cuda_driver`` found the device that the bundle was compiled for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unirestore_ros.engine.backends.cuda_driver import check_version
from unirestore_ros.engine.backends.cuda_memory import (
    DeviceMemory,
    PinnedMemory,
    Stream,
    check_cuda,
)
from unirestore_ros.engine.backends.parts import (
    PartFile,
    TensorSpec,
    feature_spec,
    frame_spec,
    prompt_spec,
)
from unirestore_ros.engine.backends.tensorrt_versions import VERSION, cudart, trt
from unirestore_ros.engine.bundle import Bundle, InferenceError
from unirestore_ros.engine.manifest import ENGINE_SUFFIX, PARTS

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
        check_cuda(cudart.cudaSetDevice(device_id))
        self._stream = stream = Stream()
        self._logger = _Logger()  # must outlive what it is given to
        runtime = trt.Runtime(self._logger)
        trunk, decoder, adapter = (_Part(bundle, part, runtime) for part in PARTS)
        frame, features = frame_spec(bundle), feature_spec(bundle)
        trunk.file.check_output("frame", trunk.inputs, frame)
        decoder.file.check_output("image", decoder.outputs, frame)
        adapter.file.check_output("features", adapter.outputs, features)

        self._host_frame = PinnedMemory(frame)
        self._memories = {"frame": DeviceMemory(frame), "prompt": DeviceMemory(prompt_spec(bundle))}
        self._prompts = {task: self._resident(prompt) for task, prompt in bundle.prompts.items()}
        for part in (trunk, decoder, adapter):
            part.bind(self._memories)
        self._trunk = trunk.captured(stream)
        self._decoder, self._adapter = decoder.captured(stream), adapter.captured(stream)
        self._parts = (runtime, trunk, decoder, adapter)  # the graphs run in their memory
        self._image = PinnedMemory(frame)
        self._features = {task: PinnedMemory(features) for task in bundle.prompts}

    def run_trunk(self, frame: NDArray[np.uint8]) -> None:
        check_cuda(cudart.cudaSetDevice(self._device_id))  # holds for the calling thread only
        self._host_frame.array()[0] = frame
        self._stream.upload(self._host_frame, self._memories["frame"])
        self._trunk()
        self._stream.wait()  # the pinned frame may be written again, and an error is this part's

    def decode(self, task: str) -> NDArray[np.uint8]:
        return self._fetch(self._decoder, task, "image", self._image)

    def adapt(self, task: str) -> NDArray[np.float32]:
        return self._fetch(self._adapter, task, "features", self._features[task])

    def close(self) -> None:
        """Nothing to do: engines, graphs and memory are freed with this object."""

    def _fetch(
        self, run: Callable[[], None], task: str, output: str, host: PinnedMemory
    ) -> NDArray[Any]:
        check_cuda(cudart.cudaSetDevice(self._device_id))
        self._stream.copy(self._prompts[task], self._memories["prompt"])
        run()
        self._stream.download(self._memories[output], host)
        self._stream.wait()
        array = host.array()[0]
        array.flags.writeable = False
        return array

    def _resident(self, prompt: NDArray[np.float32]) -> DeviceMemory:
        spec = TensorSpec("float32", (1, *prompt.shape))
        host, device = PinnedMemory(spec), DeviceMemory(spec)
        host.array()[0] = prompt
        self._stream.upload(host, device)
        self._stream.wait()
        return device


class _Part:
    """An engine, its context, and the tensors that it declares, by name."""

    def __init__(self, bundle: Bundle, part: str, runtime: trt.Runtime) -> None:
        self.file = PartFile(bundle, f"tensorrt/{part}{ENGINE_SUFFIX}")
        engine = runtime.deserialize_cuda_engine((bundle.folder / self.file.path).read_bytes())
        if engine is None:
            self.file.refuse(f"TensorRT {VERSION} cannot load it")
        self._engine = engine
        self._context = engine.create_execution_context()
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        specs = {name: self._spec(name) for name in names}
        given = {n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT}
        self.inputs = {name: spec for name, spec in specs.items() if name in given}
        self.outputs = {name: spec for name, spec in specs.items() if name not in given}

    def _spec(self, name: str) -> TensorSpec:
        dtype = self._engine.get_tensor_dtype(name).name
        if dtype not in _DTYPES:
            self.file.refuse(f"{name} is {dtype}, which no part exchanges")
        shape = self._engine.get_tensor_shape(name)
        return TensorSpec(_DTYPES[dtype], tuple(shape[i] for i in range(len(shape))))

    def bind(self, memories: Memories) -> None:
        """Read inputs from the memories of their names, and add one for each output."""
        self.file.check_inputs(self.inputs, {n: m.spec for n, m in memories.items()})
        for name, spec in self.outputs.items():
            memories[name] = DeviceMemory(spec)
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
