"""The ``onnxruntime`` backend: three ONNX graphs whose tensors stay on the device between them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from unirestore_ros.engine.backends.cores import physical_cores
from unirestore_ros.engine.bundle import Bundle
from unirestore_ros.engine.errors import BundleError, InferenceError

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_DTYPES: Mapping[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
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
    """Everything is allocated and bound when it is opened: the trunk writes to fixed tensors, which
    decoder and adapter read by name, through one binding for each task."""

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, device_id: int = 0, threads: int = 0) -> None:
        self.precision = bundle.manifest.precision
        width, height = bundle.manifest.input_size
        image_shape = (1, height, width, 3)
        device = _Device(device_id)

        self._trunk = trunk = _Part(bundle, "trunk", device, threads)
        trunk.expect("frame", trunk.inputs, np.uint8, image_shape)
        self._frame = trunk.allocate(trunk.inputs["frame"])
        made = {name: trunk.allocate(node) for name, node in trunk.outputs.items()}
        self._trunk_binding = trunk.bind({"frame": self._frame}, made)
        shared = {**made, "frame": self._frame}

        image, self._image = _host_tensor(image_shape, np.uint8)
        self._decoder = _Part(bundle, "decoder", device, threads)
        self._decoder.expect("image", self._decoder.outputs, np.uint8, image_shape)
        self._adapter = _Part(bundle, "adapter", device, threads)
        feature_shape = (1, *bundle.manifest.feature_shape)
        self._adapter.expect("features", self._adapter.outputs, np.float32, feature_shape)
        self._decodings: dict[str, ort.IOBinding] = {}
        self._adaptings: dict[str, ort.IOBinding] = {}
        self._features: dict[str, NDArray[np.float32]] = {}
        for task, prompt in bundle.prompts.items():
            sources = {**shared, "prompt": device.upload(prompt[None])}
            features, self._features[task] = _host_tensor(feature_shape, np.float32)
            self._decodings[task] = self._decoder.bind(sources, {"image": image})
            self._adaptings[task] = self._adapter.bind(sources, {"features": features})

    def run_trunk(self, frame: NDArray[np.uint8]) -> None:
        self._frame.update_inplace(frame[None])
        self._trunk.run(self._trunk_binding)

    def decode(self, task: str) -> NDArray[np.uint8]:
        self._decoder.run(self._decodings[task])
        return self._image

    def adapt(self, task: str) -> NDArray[np.float32]:
        self._adapter.run(self._adaptings[task])
        return self._features[task]


class _Device:
    """The CUDA device of that number where ONNX Runtime's CUDA provider starts, else the CPU."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._cuda = _CUDA in ort.get_available_providers()

    def load(self, path: str, options: ort.SessionOptions) -> ort.InferenceSession:
        cuda = [(_CUDA, {"device_id": self._number})] if self._cuda else []
        session = ort.InferenceSession(path, options, [*cuda, _CPU])
        if self._cuda and _CUDA not in session.get_providers():
            _log.warning("ONNX Runtime's CUDA provider does not start here: running on the CPU")
            self._cuda = False
        return session

    def allocate(self, shape: Sequence[int], dtype: Any) -> ort.OrtValue:
        place = ("cuda", self._number) if self._cuda else ("cpu", 0)
        return ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, *place)

    def upload(self, tensor: NDArray[Any]) -> ort.OrtValue:
        """A copy that lives as long as what it is bound to, which numpy's memory does not."""
        value = self.allocate(tensor.shape, tensor.dtype)
        value.update_inplace(tensor)
        return value


class _Part:
    """A graph, its session, and the tensors that it declares, by name."""

    def __init__(self, bundle: Bundle, part: str, device: _Device, threads: int) -> None:
        self._bundle, self._device = bundle, device
        self._path = f"onnxruntime/{part}.onnx"
        try:
            file = str(bundle.folder / self._path)
            self._session = device.load(file, session_options(threads))
        except ORT_ERRORS as error:
            built = bundle.manifest.backends["onnxruntime"].version
            self._refuse(f"onnxruntime {ort.__version__} (built with {built}) says: {error}")
        self.inputs = {node.name: node for node in self._session.get_inputs()}
        self.outputs = {node.name: node for node in self._session.get_outputs()}

    def expect(
        self, name: str, nodes: Mapping[str, ort.NodeArg], dtype: Any, shape: tuple[int, ...]
    ) -> None:
        """The input or output of that name must be there, as the manifest has it."""
        if name not in nodes:
            self._refuse(f"{name} is not among its {', '.join(nodes) or 'tensors'}")
        node = nodes[name]
        if _DTYPES.get(node.type) is not dtype or tuple(node.shape) != shape:
            self._refuse(
                f"{name} is {node.type} of shape {tuple(node.shape)}, "
                f"must be {np.dtype(dtype)} of shape {shape}"
            )

    def allocate(self, node: ort.NodeArg) -> ort.OrtValue:
        """The tensor, on the device, that an input or output of the graph lies in."""
        if node.type not in _DTYPES or not all(isinstance(side, int) for side in node.shape):
            self._refuse(f"{node.name} must be of fixed shape, is {node.type} of {node.shape}")
        return self._device.allocate(node.shape, _DTYPES[node.type])

    def bind(
        self, sources: Mapping[str, ort.OrtValue], outputs: Mapping[str, ort.OrtValue]
    ) -> ort.IOBinding:
        """Wire every input to the source of its name, and the outputs given."""
        binding = self._session.io_binding()
        for name, node in self.inputs.items():
            if name not in sources:
                self._refuse(f"its input {name} is none of {', '.join(sources)}")
            source = sources[name]
            if (source.data_type(), list(source.shape())) != (node.type, node.shape):
                self._refuse(
                    f"its input {name} is {node.type} of shape {node.shape}, "
                    f"but comes as {source.data_type()} of shape {source.shape()}"
                )
            binding.bind_ortvalue_input(name, source)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        return binding

    def run(self, binding: ort.IOBinding) -> None:
        try:
            self._session.run_with_iobinding(binding)
        except (RuntimeError, *ORT_ERRORS) as error:
            raise InferenceError(f"{self._path}: {' '.join(str(error).split())}") from error

    def _refuse(self, problem: str) -> NoReturn:
        raise BundleError(
            f"bundle {self._bundle.folder}: {self._path}: {problem}", self._bundle.build_command()
        )


def _host_tensor(shape: tuple[int, ...], dtype: Any) -> tuple[ort.OrtValue, NDArray[Any]]:
    """A tensor for ONNX Runtime to write to, and a read-only view of it without the batch axis."""
    array = np.zeros(shape, dtype)
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
