"""The backends ``tensorrt`` and ``tensorrt_rtx``: three engines, memory and streams through
cuda-python, no torch. What the two do not share is in ``tensorrt_versions``.

Import it only where ``cuda_driver`` found the device that the bundle was compiled for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from unirestore_ros.engine.backends.cuda_driver import Device, check_version, compile_command
from unirestore_ros.engine.backends.cuda_memory import (
    DeviceMemory,
    PinnedMemory,
    Stream,
    check_cuda,
    cudart,
)
from unirestore_ros.engine.backends.kernel_cache import KernelCache
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
from unirestore_ros.engine.backends.tensorrt_versions import (
    Context,
    TensorRT,
    is_known_wrong,
    load_tensorrt,
    log_level,
    sides_of,
    without_garbage_collection,
)
from unirestore_ros.engine.bundle import Bundle, InferenceError
from unirestore_ros.engine.manifest import ENGINE_SUFFIX, PARTS
from unirestore_ros.engine.reference import check_against_reference, read_frame
from unirestore_ros.engine.working_size import Size

if TYPE_CHECKING:
    import tensorrt as trt

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
_AS_STORED = {"bfloat16": "uint16"}
_SCRATCH = "scratch"
"""Name of the memory that the parts compute in; no tensor has it."""
_log = logging.getLogger(__name__)


def open_tensorrt(bundle: Bundle, name: str, card: Device, size: Size) -> TensorRTBackend:
    """Load the parts, compare them with the bundle's reference, and pin them to a size."""
    height, width, _ = read_frame(bundle).shape
    backend = TensorRTBackend(bundle, name, card, (width, height))
    version = bundle.manifest.backends[name].version or ""
    fix = compile_command(bundle, name)
    if name == "tensorrt" and is_known_wrong(version):
        fix = f"TensorRT {version} is known for wrong numbers: install 10.14 or later, then {fix}"
    check_against_reference(bundle, backend, fix)
    if size != backend.size:
        backend.pin(size)
    return backend


class TensorRTBackend:
    """Everything is allocated when a size is pinned, at addresses that then stay: each part is one
    CUDA graph, captured after a warm run. A task's prompt is copied into the fixed one that the
    graphs read, and its features out into a pinned host buffer of its own. The parts run one after
    another, so that they share their scratch memory.
    """

    gives_gain = True

    @without_garbage_collection()
    def __init__(self, bundle: Bundle, name: str, card: Device, size: Size) -> None:
        self.name, self.precision = name, bundle.manifest.precision
        self._api = api = load_tensorrt(name)
        check_version(bundle, name, api.version)
        self._bundle, self._device_id = bundle, card.number
        check_cuda(cudart.cudaSetDevice(card.number))
        self._stream = Stream()
        self._logger = api.logger(_log_message)  # must outlive what it is given to
        self._runtime = api.module.Runtime(self._logger)
        kernels = [KernelCache(bundle, part, card, api.version) for part in PARTS]
        self._engines = [
            _Engine(bundle, part, api, self._runtime, cache)
            for part, cache in zip(PARTS, kernels, strict=True)
        ]
        self._prompts = {task: self._resident(prompt) for task, prompt in bundle.prompts.items()}
        self.pin(size)

    @without_garbage_collection()
    def pin(self, size: Size, gain: bool = True) -> None:
        check_cuda(cudart.cudaSetDevice(self._device_id))  # holds for the calling thread only
        edges = edge_specs(self._bundle, size)
        trunk_engine, decoder_engine, adapter_engine = self._engines
        trunk = trunk_engine.pinned({"frame": edges.image})
        specs = check_trunk(trunk, edges)
        decoder, adapter = decoder_engine.pinned(specs), adapter_engine.pinned(specs)
        check_decoder(decoder, edges, specs)
        check_adapter(adapter, edges, specs)

        parts = (trunk, decoder, adapter)
        memories = {"frame": DeviceMemory(edges.image), "prompt": DeviceMemory(edges.prompt)}
        most = max(part.scratch_bytes for part in parts)
        memories[_SCRATCH] = DeviceMemory(TensorSpec("uint8", (most,)))
        for part in parts:
            part.bind(memories)
        self._trunk, self._decoder, self._adapter = (part.captured(self._stream) for part in parts)
        self._parts = parts  # the graphs run in their memory
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

    def trunk_output(self, name: str) -> NDArray[np.float32]:
        """Return an output of the trunk for the last frame, as float32."""
        memory = self._memories[name]
        spec = memory.spec
        stored = TensorSpec(_AS_STORED.get(spec.dtype, spec.dtype), spec.shape)
        host = PinnedMemory(stored)
        self._stream.download(memory, host)
        self._stream.wait()
        array = host.array()
        if spec.dtype == "bfloat16":  # the upper half of a float32
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(np.float32)

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

    def __init__(
        self, bundle: Bundle, part: str, api: TensorRT, runtime: trt.Runtime, kernels: KernelCache
    ) -> None:
        self.file = PartFile(bundle, f"{api.backend}/{part}{ENGINE_SUFFIX}")
        engine = runtime.deserialize_cuda_engine(bundle.read(self.file.path))
        if engine is None:
            self.file.refuse(f"{api.product} cannot load it")
        self._api, self._engine, self._kernels = api, engine, kernels
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        given = {n for n in names if engine.get_tensor_mode(n).name == "INPUT"}
        self._inputs = [name for name in names if name in given]
        self._outputs = [name for name in names if name not in given]

    def pinned(self, sources: TensorSpecs) -> _Part:
        """Make a context for inputs of these shapes."""
        context = self._api.context(self._engine, self._kernels.content)
        execution = context.execution
        inputs = {}
        for name in self._inputs:
            inputs[name] = declared = self._spec(name, self._engine.get_tensor_shape(name))
            if -1 not in declared.shape or name not in sources:
                continue
            shape = sources[name].shape
            if not execution.set_input_shape(name, shape):
                self._refuse_shape(name, shape)
            inputs[name] = TensorSpec(declared.dtype, shape)
        outputs = {n: self._spec(n, execution.get_tensor_shape(n)) for n in self._outputs}
        return _Part(self.file, context, self._kernels, inputs, outputs)

    def _refuse_shape(self, name: str, shape: tuple[int, ...]) -> NoReturn:
        least, _, most = map(sides_of, self._engine.get_tensor_profile_shape(name, 0))
        self.file.refuse(
            f"its input {name} does not take the shape {shape}: it was compiled for {least} to "
            f"{most}"
        )

    def _spec(self, name: str, shape: trt.Dims) -> TensorSpec:
        dtype = self._engine.get_tensor_dtype(name).name
        if dtype not in _DTYPES:
            self.file.refuse(f"{name} is {dtype}, which no part exchanges")
        return TensorSpec(_DTYPES[dtype], sides_of(shape))


class _Part:
    """An execution context for one size, and its tensors by name."""

    def __init__(
        self,
        file: PartFile,
        context: Context,
        kernels: KernelCache,
        inputs: TensorSpecs,
        outputs: TensorSpecs,
    ) -> None:
        self.file, self._context, self._kernels = file, context, kernels
        self.inputs, self.outputs = inputs, outputs
        self.scratch_bytes = max(context.execution.update_device_memory_size_for_shapes(), 1)

    def bind(self, memories: Memories) -> None:
        """Read inputs from the memories of their names, and add one for each output."""
        execution, scratch = self._context.execution, memories[_SCRATCH]
        execution.set_device_memory(scratch.address, scratch.size)
        for name, spec in self.outputs.items():
            memories[name] = DeviceMemory(spec)
        for name in (*self.inputs, *self.outputs):
            if not execution.set_tensor_address(name, memories[name].address):
                self.file.refuse(f"TensorRT does not take an address for {name}")

    def captured(self, stream: Stream) -> Callable[[], None]:
        """The part as one CUDA graph; TensorRT sets itself up in the run before."""

        def enqueue() -> None:
            if not self._context.execution.execute_async_v3(stream.handle):
                raise InferenceError(f"{self.file.path}: TensorRT did not run it")

        if self._context.cache is not None and not self._kernels.content:
            _log.info("%s: preparing kernels for this card, once: some seconds", self.file.path)
        enqueue()
        stream.wait()
        self._kernels.keep(self._context.kernels())
        graph = stream.captured(enqueue)

        def run() -> None:
            try:
                graph.launch()
            except InferenceError as error:
                raise InferenceError(f"{self.file.path}: {error}") from error

        return run


def _log_message(severity: str, message: str) -> None:
    """Put a message of TensorRT's in Python's log."""
    _log.log(log_level(severity), "TensorRT: %s", message)
