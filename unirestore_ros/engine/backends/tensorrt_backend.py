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
    GAIN,
    PartFile,
    TensorSpec,
    TensorSpecs,
    check_adapter,
    check_decoder,
    check_trunk,
    edge_specs,
)
from unirestore_ros.engine.backends.tensorrt_versions import VERSION, cudart, trt
from unirestore_ros.engine.bundle import Bundle, InferenceError
from unirestore_ros.engine.manifest import ENGINE_SUFFIX, PARTS
from unirestore_ros.engine.working_size import Size

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
    """Everything is allocated when a size is pinned, at addresses that then stay: each part is one
    CUDA graph, captured after a warm run. A task's prompt is copied into the fixed one that the
    graphs read, and its features out into a pinned host buffer of its own.
    """

    name = "tensorrt"

    def __init__(self, bundle: Bundle, device_id: int, size: Size) -> None:
        check_version(bundle, VERSION)
        self._bundle, self.precision = bundle, bundle.manifest.precision
        self._device_id = device_id
        check_cuda(cudart.cudaSetDevice(device_id))
        self._stream = Stream()
        self._logger = _Logger()  # must outlive what it is given to
        self._runtime = trt.Runtime(self._logger)
        self._engines = [_Engine(bundle, part, self._runtime) for part in PARTS]
        self._prompts = {task: self._resident(prompt) for task, prompt in bundle.prompts.items()}
        self.pin(size)

    def pin(self, size: Size) -> None:
        check_cuda(cudart.cudaSetDevice(self._device_id))  # holds for the calling thread only
        edges = edge_specs(self._bundle, size)
        trunk_engine, decoder_engine, adapter_engine = self._engines
        trunk = trunk_engine.pinned({"frame": edges.image})
        specs = check_trunk(trunk, edges)
        decoder, adapter = decoder_engine.pinned(specs), adapter_engine.pinned(specs)
        check_decoder(decoder, edges, specs)
        check_adapter(adapter, edges, specs)

        memories = {"frame": DeviceMemory(edges.image), "prompt": DeviceMemory(edges.prompt)}
        for part in (trunk, decoder, adapter):
            part.bind(memories)
        runs = [part.captured(self._stream) for part in (trunk, decoder, adapter)]
        self._trunk, self._decoder, self._adapter = runs
        self._parts = (trunk, decoder, adapter)  # the graphs run in their memory
        self._memories, self._host_frame = memories, PinnedMemory(edges.image)
        self._decoded = {name: PinnedMemory(spec) for name, spec in edges.decoded.items()}
        self._features = {task: PinnedMemory(edges.features) for task in self._prompts}
        self.size = size

    def run_trunk(self, frame: NDArray[np.uint8]) -> None:
        check_cuda(cudart.cudaSetDevice(self._device_id))  # holds for the calling thread only
        self._host_frame.array()[0] = frame
        self._stream.upload(self._host_frame, self._memories["frame"])
        self._trunk()
        self._stream.wait()  # the pinned frame may be written again, and an error is this part's

    def decode(self, task: str) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        arrays = self._fetch(self._decoder, task, self._decoded)
        return arrays["image"], arrays.get(GAIN)

    def adapt(self, task: str) -> NDArray[np.float32]:
        arrays = self._fetch(self._adapter, task, {"features": self._features[task]})
        return arrays["features"]

    def close(self) -> None:
        """Nothing to do: engines, graphs and memory are freed with this object."""

    def _fetch(
        self, run: Callable[[], None], task: str, outputs: Mapping[str, PinnedMemory]
    ) -> dict[str, NDArray[Any]]:
        check_cuda(cudart.cudaSetDevice(self._device_id))
        self._stream.copy(self._prompts[task], self._memories["prompt"])
        run()
        for name, host in outputs.items():
            self._stream.download(self._memories[name], host)
        self._stream.wait()
        arrays = {name: host.array()[0] for name, host in outputs.items()}
        for array in arrays.values():
            array.flags.writeable = False
        return arrays

    def _resident(self, prompt: NDArray[np.float32]) -> DeviceMemory:
        spec = TensorSpec("float32", (1, *prompt.shape))
        host, device = PinnedMemory(spec), DeviceMemory(spec)
        host.array()[0] = prompt
        self._stream.upload(host, device)
        self._stream.wait()
        return device


class _Engine:
    """The engine of a part, deserialised once."""

    def __init__(self, bundle: Bundle, part: str, runtime: trt.Runtime) -> None:
        self.file = PartFile(bundle, f"tensorrt/{part}{ENGINE_SUFFIX}")
        engine = runtime.deserialize_cuda_engine(bundle.read(self.file.path))
        if engine is None:
            self.file.refuse(f"TensorRT {VERSION} cannot load it")
        self._engine = engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        given = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self._inputs, self._outputs = given, [name for name in names if name not in given]

    def pinned(self, sources: TensorSpecs) -> _Part:
        """Make a context for inputs of these shapes."""
        context = self._engine.create_execution_context()
        inputs = {}
        for name in self._inputs:
            inputs[name] = declared = self._spec(name, self._engine.get_tensor_shape(name))
            if -1 not in declared.shape or name not in sources:
                continue
            shape = sources[name].shape
            if not context.set_input_shape(name, shape):
                self.file.refuse(f"its input {name} does not take the shape {shape}")
            inputs[name] = TensorSpec(declared.dtype, shape)
        outputs = {name: self._spec(name, context.get_tensor_shape(name)) for name in self._outputs}
        return _Part(self.file, context, inputs, outputs)

    def _spec(self, name: str, shape: trt.Dims) -> TensorSpec:
        dtype = self._engine.get_tensor_dtype(name).name
        if dtype not in _DTYPES:
            self.file.refuse(f"{name} is {dtype}, which no part exchanges")
        return TensorSpec(_DTYPES[dtype], tuple(shape[i] for i in range(len(shape))))


class _Part:
    """An execution context for one size, and its tensors by name."""

    def __init__(
        self, file: PartFile, context: Any, inputs: TensorSpecs, outputs: TensorSpecs
    ) -> None:
        self.file, self._context = file, context
        self.inputs, self.outputs = inputs, outputs

    def bind(self, memories: Memories) -> None:
        """Read inputs from the memories of their names, and add one for each output."""
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
