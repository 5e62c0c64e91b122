"""The ``torch`` backend: three exported programs, on a CUDA device or, when named, on the CPU.

The only modules on the vehicle's side that import PyTorch are this one and ``torch_programs``, and
only once the backend is chosen.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from unirestore_ros.engine.backends import cuda_driver
from unirestore_ros.engine.backends.parts import (
    GAIN,
    PartFile,
    TensorSpec,
    TensorSpecs,
    check_adapter,
    check_decoder,
    check_trunk,
    edge_specs,
    physical_cores,
)
from unirestore_ros.engine.backends.torch_programs import load_program
from unirestore_ros.engine.bundle import Bundle, InferenceError
from unirestore_ros.engine.manifest import PARTS
from unirestore_ros.engine.working_size import Size

Tensors = dict[str, Tensor]
Run = Callable[[], Mapping[str, Tensor]]
WARM_RUNS = 3
"""Before a part is captured: libraries choose algorithms and allocate in their first runs."""

_log = logging.getLogger(__name__)


class TorchBackend:
    """The parts read their inputs by name: frame and prompt from here, the rest from the trunk.

    On CUDA each part is one CUDA graph over fixed tensors; the prompt of a task is copied into the
    fixed one. Results are copied to host buffers: one for images, one for the features of each
    task.
    """

    name = "torch"
    gives_gain = True

    def __init__(self, bundle: Bundle, device_id: int, threads: int, size: Size) -> None:
        self._bundle, self.precision = bundle, bundle.manifest.precision
        self._device = _device(device_id)
        if self._device.type == "cpu":
            torch.set_num_threads(threads or physical_cores())
        # On by default: convolutions of float32 would run in 19 bits.
        torch.backends.cudnn.allow_tf32 = False
        with _torch_errors(f"bundle {bundle.folder} cannot be loaded"):
            self._parts = [_Part(bundle, part, self._device) for part in PARTS]
            self._prompts = {
                task: torch.tensor(prompt[None]).to(self._device)
                for task, prompt in bundle.prompts.items()
            }
            self.pin(size)

    def pin(self, size: Size, gain: bool = True) -> None:
        with _torch_errors(f"bundle {self._bundle.folder} cannot take frames of {size}"):
            self._pin(size)

    def _pin(self, size: Size) -> None:
        edges = edge_specs(self._bundle, size)
        trunk, decoder, adapter = self._parts
        host_frame = self._host_buffer(edges.image)
        prompt = torch.zeros(edges.prompt.shape, device=self._device)
        tensors = {"frame": host_frame.to(self._device), "prompt": prompt}
        run_trunk = trunk.connected(tensors)
        specs = check_trunk(trunk, edges)
        run_decoder = decoder.connected(tensors)
        check_decoder(decoder, edges, specs)
        run_adapter = adapter.connected(tensors)
        check_adapter(adapter, edges, specs)

        self._run_trunk, self._run_decoder, self._run_adapter = run_trunk, run_decoder, run_adapter
        self._host_frame, self._frame, self._prompt = host_frame, tensors["frame"], prompt
        self._decoded = {name: self._host_buffer(spec) for name, spec in edges.decoded.items()}
        self._features = {task: self._host_buffer(edges.features) for task in self._prompts}
        self.size = size

    def run_trunk(self, frame: NDArray[np.uint8]) -> None:
        self._host_frame.numpy()[0] = frame
        with _torch_errors("trunk"):
            if self._device.type != "cpu":
                self._frame.copy_(self._host_frame, non_blocking=True)
            self._run_trunk()

    def decode(self, task: str) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        with _torch_errors("decoder"):
            self._prompt.copy_(self._prompts[task])
            made = self._run_decoder()
            arrays = {name: _fetched(made[name], buffer) for name, buffer in self._decoded.items()}
        return arrays["image"], arrays.get(GAIN)

    def adapt(self, task: str) -> NDArray[np.float32]:
        with _torch_errors("adapter"):
            self._prompt.copy_(self._prompts[task])
            return _fetched(self._run_adapter()["features"], self._features[task])

    def close(self) -> None:
        """Free the programs. Their graphs are full of reference cycles (each node refers to its
        graph), which would keep every weight alive until the collector's next full pass; in a
        process with many other objects that is a long time."""
        del self._run_trunk, self._run_decoder, self._run_adapter, self._parts
        gc.collect()

    def _host_buffer(self, spec: TensorSpec) -> Tensor:
        """Make a host buffer, pinned where a device reads or writes it."""
        dtype, pinned = getattr(torch, spec.dtype), self._device.type != "cpu"
        return torch.zeros(spec.shape, dtype=dtype, pin_memory=pinned)


class _Part:
    """An exported program, and the tensors that it declares, by name."""

    def __init__(self, bundle: Bundle, part: str, device: torch.device) -> None:
        self.file, self._device = PartFile(bundle, f"torch/{part}.pt2"), device
        try:
            program = load_program(bundle.read(self.file.path))
        except (RuntimeError, ValueError, KeyError) as error:
            built = bundle.manifest.backends["torch"].version
            self.file.refuse(f"PyTorch {torch.__version__} (exported with {built}) says: {error}")
        declared = {
            node.name: _spec(node.meta["val"])
            for node in program.graph.nodes
            if isinstance(node.meta.get("val"), Tensor)
        }
        self._declared = {name: declared[name] for name in program.graph_signature.user_inputs}
        self.inputs: TensorSpecs = self._declared
        self.outputs: TensorSpecs = {}
        if device.type != "cpu":
            program = move_to_device_pass(program, str(device))
        module = program.module(check_guards=False)
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.ndim == 4:
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
        self._module = _compiled(module, device)

    def connected(self, tensors: Tensors) -> Run:
        """Return a call that reads its inputs from ``tensors`` and leaves its outputs there too.

        The part runs once for it: that tells the outputs' shapes at this size.
        """
        sources = {name: _spec(tensor) for name, tensor in tensors.items()}
        self.inputs = {name: self._pinned(name, sources) for name in self._declared}
        self.file.check_inputs(self.inputs, sources)
        with torch.inference_mode():
            made = self._module(**{name: tensors[name] for name in self.inputs})
            self.outputs = {name: _spec(tensor) for name, tensor in made.items()}
            tensors.update(made)
            captured = self._captured(tensors) if self._device.type != "cpu" else None

        @torch.inference_mode()
        def run() -> Mapping[str, Tensor]:
            if captured is not None:
                captured.replay()
            else:
                tensors.update(self._module(**{name: tensors[name] for name in self.inputs}))
            return tensors

        return run

    def _pinned(self, name: str, sources: TensorSpecs) -> TensorSpec:
        """Return what is declared of an input, its symbolic sides taken from what it will read."""
        declared, source = self._declared[name], sources.get(name)
        if source is None or len(source.shape) != len(declared.shape):
            return declared
        sides = zip(declared.shape, source.shape, strict=True)
        shape = tuple(side if isinstance(side, int) else given for side, given in sides)
        return TensorSpec(declared.dtype, shape)

    def _captured(self, tensors: Tensors) -> torch.cuda.CUDAGraph:
        """The part as one CUDA graph, whose outputs take their place in ``tensors``."""
        inputs = {name: tensors[name] for name in self.inputs}
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_RUNS):
                self._module(**inputs)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            tensors.update(self._module(**inputs))
        return graph


@contextlib.contextmanager
def _torch_errors(what: str) -> Iterator[None]:
    """Raise what PyTorch and CUDA raise, on one line, as InferenceError; memory and a CUDA error
    that stays among it."""
    try:
        yield
    except InferenceError:
        raise
    except RuntimeError as error:
        raise InferenceError(f"torch: {what}: {' '.join(str(error).split())}") from error


def _spec(tensor: Tensor) -> TensorSpec:
    return TensorSpec(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def _fetched(result: Tensor, buffer: Tensor) -> NDArray:
    """Copy a result to a host buffer, which waits for the device; return a view without the batch
    axis, read-only."""
    buffer.copy_(result)
    array = buffer.numpy()[0]
    array.flags.writeable = False
    return array


def _device(number: int) -> torch.device:
    """Choose the CUDA device of that number where PyTorch can use it, else the CPU with a
    warning."""
    try:
        cuda_driver.device(number)
    except cuda_driver.CudaError as error:
        _log.info("backend torch runs on the CPU: %s", error)
        return torch.device("cpu")
    if not torch.cuda.is_available():
        _log.warning("backend torch runs on the CPU: this PyTorch is built without CUDA")
        return torch.device("cpu")
    return torch.device("cuda", number)


def _compiled(module: nn.Module, device: torch.device) -> Callable[..., Tensors]:
    """Compiled on CUDA where there is Triton to compile with.

    On a CPU it does not pay: of `tiny` at 480x360 on one core the trunk takes 133 instead of
    138 ms, the decoder 95 instead of 74, and compiling takes minutes at each start. Nor does
    trying out kernels on the GPU: a node waits for it at each start and at each new size.
    """
    if device.type == "cpu" or importlib.util.find_spec("triton") is None:
        return module
    compiled: Callable[..., Tensors] = torch.compile(module, dynamic=False)
    return compiled
