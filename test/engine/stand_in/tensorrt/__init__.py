"""TensorRT's Python API, as far as the package uses it, over ONNX Runtime and host memory.

An engine is its ONNX file with a word in front. A graph named in BROKEN is refused.
"""

import ctypes
import enum
import json
import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
from cuda.bindings import runtime

__version__ = "10.3.0"
_MAGIC = b"engine:"
BROKEN = os.environ.get("BROKEN", "").split()


class DataType(enum.Enum):
    FLOAT = "tensor(float)"
    UINT8 = "tensor(uint8)"


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class BuilderFlag(enum.Enum):
    TF32 = 0


class PreviewFeature(enum.Enum):
    RUNTIME_ACTIVATION_RESIZE_10_10 = 0


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC = 0
    USER_MANAGED = 2


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3


class IProgressMonitor:
    pass


class _Context:
    """It writes into its scratch memory when it runs, as far as its shapes need it."""

    def __init__(self, engine):
        self._engine, self._session = engine, engine.session
        self._scratch = None
        self._addresses, self._shapes = {}, {}

    def set_input_shape(self, name, shape):
        """An engine takes the shapes between those of its profile."""
        least, _, most = self._engine.profile[name]
        if not all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True)):
            return False
        self._shapes[name] = tuple(shape)
        for declared, given in zip(self._engine.declared[name], shape, strict=True):
            if isinstance(declared, str):
                self._engine.sides[declared.partition("/")[0]] = given * int(declared.split("/")[1])
        return True

    def get_tensor_shape(self, name):
        return tuple(self._engine.side(side) for side in self._engine.declared[name])

    def update_device_memory_size_for_shapes(self):
        return sum(int(np.prod(shape)) for shape in self._shapes.values())

    def set_device_memory(self, memory, size):
        assert size >= self.update_device_memory_size_for_shapes()
        self._scratch = memory

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return address != 0

    def execute_async_v3(self, stream):
        runtime.enqueue(stream, self._run)
        return True

    def _array(self, node):
        dtype = np.uint8 if node.type == "tensor(uint8)" else np.float32
        shape = self._shapes.get(node.name) or self.get_tensor_shape(node.name)
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        block = (ctypes.c_uint8 * size).from_address(self._addresses[node.name])
        return np.frombuffer(block, dtype).reshape(shape)

    def _run(self):
        ctypes.memset(self._scratch, 0xCD, self.update_device_memory_size_for_shapes())
        given = {node.name: self._array(node) for node in self._session.get_inputs()}
        results = self._session.run(None, given)
        for node, result in zip(self._session.get_outputs(), results, strict=True):
            self._array(node)[...] = result


class _Engine:
    def __init__(self, content):
        profile, _, graph = content.partition(b"\n")
        self.profile, self.sides = json.loads(profile), {}
        self.session = ort.InferenceSession(graph)
        self._inputs = {node.name: node for node in self.session.get_inputs()}
        self._all = {**self._inputs, **{n.name: n for n in self.session.get_outputs()}}
        self.declared = {name: node.shape for name, node in self._all.items()}
        self.num_io_tensors = len(self._all)

    def get_tensor_name(self, index):
        return list(self._all)[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return DataType(self._all[name].type)

    def get_tensor_shape(self, name):
        return tuple(-1 if isinstance(side, str) else side for side in self.declared[name])

    def side(self, side):
        if isinstance(side, int):
            return side
        name, part = side.split("/")
        return self.sides[name] // int(part)

    def get_tensor_profile_shape(self, name, profile):
        return self.profile[name]

    def create_execution_context(self, strategy):
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        return _Context(self)


class Runtime:
    engine = _Engine

    def __init__(self, logger):
        pass

    def deserialize_cuda_engine(self, content):
        return self.engine(content[len(_MAGIC) :]) if content.startswith(_MAGIC) else None


class ParserError:
    def __init__(self, name):
        self._name = name

    def node_name(self):
        return self._name

    def node(self):
        return 7

    code = line = node

    def file(self):
        return "importer.cpp"

    def func(self):
        return "importNode"

    def node_operator(self):
        return "Frobnicate"

    def desc(self):
        return "there is no importer for it"


class OnnxParser:
    def __init__(self, network, logger):
        self._network, self.num_errors = network, 0

    def parse_from_file(self, path):
        self._network.content = Path(path).read_bytes()
        self.num_errors = 2 if Path(path).stem in BROKEN else 0
        return self.num_errors == 0

    def get_error(self, index):
        return ParserError(f"node_{index}")


class _Cache:
    def __init__(self, content):
        self.content = content

    def serialize(self):
        return self.content + b"+"


class _Profile:
    def __init__(self):
        self.shapes = {}

    def set_shape(self, name, least, usual, most):
        self.shapes[name] = [least, usual, most]


class _Config:
    def __init__(self):
        self.cache, self.limits, self.progress_monitor = None, {}, None
        self.profile = _Profile()

    def add_optimization_profile(self, profile):
        self.profile = profile

    def set_preview_feature(self, feature, on):
        assert feature is PreviewFeature.RUNTIME_ACTIVATION_RESIZE_10_10 and on

    def clear_flag(self, flag):
        assert flag is BuilderFlag.TF32

    def set_memory_pool_limit(self, pool, size):
        self.limits[pool] = size

    def create_timing_cache(self, content):
        return _Cache(content)

    def set_timing_cache(self, cache, ignore_mismatch):
        if cache.content.startswith(b"another"):
            return False
        self.cache = cache
        return True

    def get_timing_cache(self):
        return self.cache


class _Input:
    def __init__(self, node):
        self.name, self._shape = node.name, node.shape
        self.shape = tuple(-1 if isinstance(side, str) else side for side in node.shape)

    def get_dimension_name(self, axis):
        return self._shape[axis]


class _Network:
    content = b""
    num_layers = 0

    @property
    def _inputs(self):
        return [_Input(node) for node in ort.InferenceSession(self.content).get_inputs()]

    @property
    def num_inputs(self):
        return len(self._inputs)

    def get_input(self, index):
        return self._inputs[index]


class Builder:
    def __init__(self, logger):
        self._logger = logger

    def create_network(self, flags=0):
        assert flags == 2, "strongly typed"
        return _Network()

    def create_optimization_profile(self):
        return _Profile()

    def create_builder_config(self):
        return _Config()

    def build_serialized_network(self, network, config):
        monitor = config.progress_monitor
        monitor.phase_start("Building Engine", None, 2)
        for step in range(2):
            if not monitor.step_complete("Building Engine", step):
                return None
        monitor.phase_finish("Building Engine")
        if os.environ.get("OUT_OF_MEMORY"):
            self._logger.log(ILogger.Severity.ERROR, "no tactic fits the workspace")
            return None
        return _MAGIC + json.dumps(config.profile.shapes).encode() + b"\n" + network.content
