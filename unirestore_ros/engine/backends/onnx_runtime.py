"""The ``onnxruntime`` backend: three ONNX graphs whose tensors stay on the device between them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from unirestore_ros.engine.backends.parts import (
    GAIN,
    IMAGE_DECODER,
    PartFile,
    TensorSpec,
    check_adapter,
    check_decoder,
    check_trunk,
    decoder_part,
    dimension_sizes,
    edge_specs,
    physical_cores,
)
from unirestore_ros.engine.bundle import Bundle, InferenceError
from unirestore_ros.engine.manifest import PARTS
from unirestore_ros.engine.working_size import Size

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_DTYPES: Mapping[str, str] = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
ORT_ERRORS = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
_FATAL_ONLY = 4

_log = logging.getLogger(__name__)


class OnnxRuntimeBackend:
    """Everything is allocated and bound when a size is pinned: the trunk writes to fixed tensors,
    which decoder and adapter read by name, through one binding for each task."""

    name = "onnxruntime"

    def __init__(
        self, bundle: Bundle, device_id: int, threads: int, size: Size, gain: bool = True
    ) -> None:
        self._bundle, self.precision = bundle, bundle.manifest.precision
        self._device = _Device(device_id)
        names = {*PARTS, decoder_part(bundle, gain=False)}
        self._graphs = {name: _Graph(bundle, name, self._device, threads) for name in names}
        self._prompts = {
            task: self._device.upload(prompt[None]) for task, prompt in bundle.prompts.items()
        }
        self.pin(size, gain)

    def pin(self, size: Size, gain: bool = True) -> None:
        decoder_name = decoder_part(self._bundle, gain)
        gives_gain = decoder_name != IMAGE_DECODER
        edges = edge_specs(self._bundle, size, gives_gain)
        trunk, decoder, adapter = (
            self._graphs[name].pinned(size) for name in ("trunk", decoder_name, "adapter")
        )
        specs = check_trunk(trunk, edges)
        check_decoder(decoder, edges, specs)
        check_adapter(adapter, edges, specs)

        tensors = {name: self._device.allocate(spec) for name, spec in trunk.outputs.items()}
        tensors["frame"] = self._device.allocate(edges.image)
        self._trunk_binding = trunk.bind(tensors, tensors)
        decoded = {name: _host_tensor(spec) for name, spec in edges.decoded.items()}
        self._image = decoded["image"][1]
        self._gain = decoded[GAIN][1] if GAIN in decoded else None
        outputs = {name: value for name, (value, _) in decoded.items()}
        self._decodings: dict[str, ort.IOBinding] = {}
        self._adaptings: dict[str, ort.IOBinding] = {}
        self._features: dict[str, NDArray[np.float32]] = {}
        for task, prompt in self._prompts.items():
            sources = {**tensors, "prompt": prompt}
            features, self._features[task] = _host_tensor(edges.features)
            self._decodings[task] = decoder.bind(sources, outputs)
            self._adaptings[task] = adapter.bind(sources, {"features": features})
        self._frame, self.size, self.gives_gain = tensors["frame"], size, gives_gain
        self._trunk, self._decoder, self._adapter = trunk, decoder, adapter

    def run_trunk(self, frame: NDArray[np.uint8]) -> None:
        self._frame.update_inplace(frame[None])
        self._trunk.run(self._trunk_binding)

    def decode(self, task: str) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        self._decoder.run(self._decodings[task])
        return self._image, self._gain

    def adapt(self, task: str) -> NDArray[np.float32]:
        self._adapter.run(self._adaptings[task])
        return self._features[task]

    def close(self) -> None:
        """Nothing to do: sessions and tensors are freed with this object."""


class _Device:
    """Use the CUDA device of that number where ONNX Runtime's CUDA provider starts, else the
    CPU."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._cuda = _CUDA in ort.get_available_providers()

    def load(self, graph: bytes | str, options: ort.SessionOptions) -> ort.InferenceSession:
        cuda = [(_CUDA, {"device_id": self._number})] if self._cuda else []
        session = ort.InferenceSession(graph, options, [*cuda, _CPU])
        if self._cuda and _CUDA not in session.get_providers():
            _log.warning("ONNX Runtime's CUDA provider does not start here: running on the CPU")
            self._cuda = False
        return session

    def allocate(self, spec: TensorSpec) -> ort.OrtValue:
        place = ("cuda", self._number) if self._cuda else ("cpu", 0)
        return ort.OrtValue.ortvalue_from_shape_and_type(spec.shape, np.dtype(spec.dtype), *place)

    def upload(self, tensor: NDArray[Any]) -> ort.OrtValue:
        """Copy a tensor: the copy lives as long as what it is bound to, NumPy's memory does not."""
        value = self.allocate(TensorSpec(tensor.dtype.name, tensor.shape))
        value.update_inplace(tensor)
        return value


class _Graph:
    """A part's file, read once: a bundle may be replaced before the next size is pinned."""

    def __init__(self, bundle: Bundle, part: str, device: _Device, threads: int) -> None:
        self.file = PartFile(bundle, f"onnxruntime/{part}.onnx")
        self._device, self._threads = device, threads
        self._content = bundle.read_graph(self.file.path)

    def pinned(self, size: Size) -> _Part:
        options = session_options(self._threads)
        sides = dimension_sizes(size)
        for name, side in sides.items():
            options.add_free_dimension_override_by_name(name, side)
        try:
            return _Part(self.file, self._device.load(self._content, options), sides)
        except ORT_ERRORS as error:
            built = self.file.bundle.manifest.backends["onnxruntime"].version
            self.file.refuse(f"onnxruntime {ort.__version__} (built with {built}) says: {error}")


class _Part:
    """The session of a graph that is pinned to a size, and the tensors that it declares."""

    def __init__(
        self, file: PartFile, session: ort.InferenceSession, sides: Mapping[str, int]
    ) -> None:
        self.file, self._session, self._sides = file, session, sides
        self.inputs = self._specs(session.get_inputs())
        self.outputs = self._specs(session.get_outputs())

    def _specs(self, nodes: Sequence[ort.NodeArg]) -> dict[str, TensorSpec]:
        """Read the specs of inputs or outputs; the name of a side tells what it is pinned to."""
        specs = {}
        for node in nodes:
            shape = tuple(self._sides.get(side, side) for side in node.shape)
            if node.type not in _DTYPES or not all(isinstance(side, int) for side in shape):
                self.file.refuse(f"{node.name} must be of fixed shape, is {node.type} {node.shape}")
            specs[node.name] = TensorSpec(_DTYPES[node.type], shape)
        return specs

    def bind(
        self, sources: Mapping[str, ort.OrtValue], outputs: Mapping[str, ort.OrtValue]
    ) -> ort.IOBinding:
        """Connect every input to the source of its name, and outputs to the tensors of theirs."""
        binding = self._session.io_binding()
        for name in self.inputs:
            binding.bind_ortvalue_input(name, sources[name])
        for name, value in outputs.items():
            if name in self.outputs:
                binding.bind_ortvalue_output(name, value)
        return binding

    def run(self, binding: ort.IOBinding) -> None:
        try:
            self._session.run_with_iobinding(binding)
        except (RuntimeError, *ORT_ERRORS) as error:
            raise InferenceError(f"{self.file.path}: {' '.join(str(error).split())}") from error


def _host_tensor(spec: TensorSpec) -> tuple[ort.OrtValue, NDArray[Any]]:
    """Make a tensor for ONNX Runtime to write to, and a read-only view without the batch axis."""
    array = np.zeros(spec.shape, spec.dtype)
    view = array[0]
    view.flags.writeable = False
    return ort.OrtValue.ortvalue_from_numpy(array), view


def session_options(threads: int) -> ort.SessionOptions:
    """Figures are for tiny at 480x360 on 2 cores that other processes use too."""
    _share_arena()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or physical_cores()
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _FATAL_ONLY  # errors are raised, not printed as well
    # Threads that spin while they wait take the cores from the nodes that need the result: 0.6 s of
    # processor time a frame instead of 0.3, and no sooner done.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # One arena for the parts, which never run at once, and no block planned ahead for each of them:
    # 154 MB of resident memory instead of 315, at the same speed.
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.enable_mem_pattern = False
    return options


@functools.cache
def _share_arena() -> None:
    """Register the arena that all sessions of this process share. It grows by what is asked for,
    not to the next power of two, and keeps its memory for the next engine."""
    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"arena_extend_strategy": 1}))
