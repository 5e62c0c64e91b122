"""Every difference between the kinds and versions of TensorRT and of cuda-python that are met here.

TensorRT 10 (JetPack 6 and 7) and 11, and TensorRT for RTX 1.x, whose Python API is that of 10 with
other flags. Sources: the Python APIs of 10.1 to 10.15 and of TensorRT for RTX 1.7, and the
migration guide from 10 to 11, docs.nvidia.com/deeplearning. Load engines only where a driver was
found (``cuda_driver``): TensorRT's run-time crashes without one. Compiling for RTX needs none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorrt as trt

RTX = "tensorrt_rtx"
MODULES: Mapping[str, tuple[str, ...]] = {
    # The second loads engines and builds none.
    "tensorrt": ("tensorrt", "tensorrt_lean"),
    RTX: ("tensorrt_rtx_bindings",),
}
"""By backend: the Python modules that have its API, the first that is there counts."""
PRODUCTS = {"tensorrt": "TensorRT", RTX: "TensorRT for RTX"}
WRONG_NUMBERS = ((10, 3), (10, 14))
"""From, and first without: versions of TensorRT for which public reports name wrong results of
transformer-like networks (NVIDIA/TensorRT issue 4419; fixed at the latest in 10.14)."""

Report = Callable[[str, str], None]
"""Takes a message's severity, by TensorRT's name, and its text."""


@dataclasses.dataclass(frozen=True)
class TensorRT:
    """The API of one kind of TensorRT, with its version."""

    backend: str
    module: Any

    @property
    def version(self) -> str:
        return str(self.module.__version__)

    @property
    def product(self) -> str:
        """Name and version, for messages."""
        return f"{PRODUCTS[self.backend]} {self.version}"

    @property
    def is_rtx(self) -> bool:
        return self.backend == RTX

    def can_build(self) -> bool:
        return hasattr(self.module, "Builder")

    def network_flags(self) -> int:
        """Flags for ``create_network``: in TensorRT 11 there is nothing but strong typing."""
        flag = getattr(self.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        return 0 if flag is None else 1 << int(flag)

    def compute_capabilities(self) -> tuple[str, ...]:
        """List what TensorRT for RTX compiles for, such as 8.9."""
        names = [re.fullmatch(r"SM(\d+)(\d)", name) for name in dir(self.module.ComputeCapability)]
        found = [(int(name[1]), int(name[2])) for name in names if name]
        return tuple(f"{major}.{minor}" for major, minor in sorted(found))

    def name_gpus(self, config: trt.IBuilderConfig, gpus: Sequence[str]) -> None:
        """Say which compute capabilities to compile for: unsupported types are refused by name."""
        rtx_config: Any = config
        rtx_config.num_compute_capabilities = len(gpus)
        for index, gpu in enumerate(gpus):
            capability = getattr(self.module.ComputeCapability, f"SM{gpu.replace('.', '')}")
            rtx_config.set_compute_capability(capability, index)

    def free_scratch_to_shapes(self, config: trt.IBuilderConfig) -> None:
        """Let a context need the memory of its shapes, not of the profile's largest."""
        feature = getattr(self.module.PreviewFeature, "RUNTIME_ACTIVATION_RESIZE_10_10", None)
        if feature is not None:
            config.set_preview_feature(feature, True)

    def context(self, engine: trt.ICudaEngine, kernels: bytes | None) -> Context:
        """Make a context whose scratch memory the caller gives.

        ``kernels``: what ``Context.kernels`` gave before; only TensorRT for RTX uses it.
        """
        strategy = self.module.ExecutionContextAllocationStrategy.USER_MANAGED
        if not self.is_rtx:
            return Context(engine.create_execution_context(strategy), None, None)
        config: Any = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        # The default compiles kernels for a shape in the background, beside slower ones that it
        # replaces later: a captured graph would keep those, and results would change in a drive.
        config.dynamic_shapes_kernel_specialization_strategy = (
            self.module.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        cache = config.create_runtime_cache()
        if kernels:
            cache.deserialize(kernels)  # False where they are of another version or card
        config.set_runtime_cache(cache)
        return Context(engine.create_execution_context(config), config, cache)

    def logger(self, report: Report) -> trt.ILogger:
        base = self.module.ILogger

        class Logger(base):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                base.__init__(self)

            def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
                report(severity.name, msg)

        logger: trt.ILogger = Logger()
        return logger


@dataclasses.dataclass(frozen=True)
class Context:
    """An execution context, and what must live as long as it does."""

    execution: trt.IExecutionContext
    config: Any
    cache: Any

    def kernels(self) -> bytes | None:
        """Return the kernels compiled for this card so far; None where the engine holds them."""
        return None if self.cache is None else bytes(self.cache.serialize())


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Keep Python from collecting cycles of objects meanwhile.

    TensorRT logs under a lock that a builder or run-time takes too when it ends. Where a message's
    handling in Python set off a collection that found an old builder, its end waited for the lock
    of its own thread, for ever (seen with TensorRT for RTX 1.7, in an exception's traceback).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def load_tensorrt(backend: str) -> TensorRT:
    """Import the TensorRT of a backend; ModuleNotFoundError where there is none."""
    *others, last = MODULES[backend]
    for name in others:
        try:
            return TensorRT(backend, importlib.import_module(name))
        except ModuleNotFoundError:
            continue
    return TensorRT(backend, importlib.import_module(last))


def load_cudart() -> Any:
    """Import the CUDA run-time of cuda-python, which is called otherwise before 12.6.1."""
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ModuleNotFoundError:
        return importlib.import_module("cuda.cudart")


def is_known_wrong(version: str) -> bool:
    """Tell whether a version of TensorRT is among those reported to give wrong numbers."""
    found = re.match(r"(\d+)\.(\d+)", version)
    first, fixed = WRONG_NUMBERS
    return found is not None and first <= (int(found[1]), int(found[2])) < fixed


def log_level(severity: str) -> int:
    levels: Mapping[str, int] = {
        "INTERNAL_ERROR": logging.ERROR,
        "ERROR": logging.ERROR,
        "WARNING": logging.WARNING,
    }
    return levels.get(severity, logging.DEBUG)


def sides_of(shape: trt.Dims) -> tuple[int, ...]:
    """Return a shape as Python's own numbers; -1 for a side that is given at run time."""
    return tuple(int(shape[axis]) for axis in range(len(shape)))


def describe_layers(network: trt.INetworkDefinition, messages: Iterable[str]) -> list[str]:
    """Describe the layers that messages name: a line each, with the types that they read and
    give."""
    text = "\n".join(messages)
    layers = (network.get_layer(i) for i in range(network.num_layers))
    return [_describe(layer) for layer in layers if _names(layer.name, text)]


def _names(name: str, text: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text) is not None


def _describe(layer: trt.ILayer) -> str:
    inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
    types = [tensor.dtype.name for tensor in inputs if tensor is not None]
    given = [layer.get_output(i).dtype.name for i in range(layer.num_outputs)]
    return (
        f"  node {layer.name}: {layer.type.name} of {', '.join(types) or 'no input'}, "
        f"giving {', '.join(given)}"
    )
