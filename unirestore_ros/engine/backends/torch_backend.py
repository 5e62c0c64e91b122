"""The ``torch`` backend: three exported programs, on a CUDA device or, when named, on the CPU.

The only module on the vehicle's side that imports PyTorch, and only once the backend is chosen.
"""

from __future__ import annotations

import gc
import importlib.util
import logging
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from unirestore_ros.engine.backends import cuda_driver
from unirestore_ros.engine.backends.parts import (
    PartFile,
    TensorSpec,
    feature_spec,
    frame_spec,
    physical_cores,
    prompt_spec,
)
from unirestore_ros.engine.bundle import Bundle, InferenceError

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

    def __init__(self, bundle: Bundle, device_id: int = 0, threads: int = 0) -> None:
        self.precision = bundle.manifest.precision
        self._device = _device(device_id)
        if self._device.type == "cpu":
            torch.set_num_threads(threads or physical_cores())
        frame, features = frame_spec(bundle), feature_spec(bundle)
        trunk, decoder, adapter = (
            _Part(bundle, part, self._device) for part in ("trunk", "decoder", "adapter")
        )
        trunk.file.check_output("frame", trunk.inputs, frame)
        decoder.file.check_output("image", decoder.outputs, frame)
        adapter.file.check_output("features", adapter.outputs, features)

        self._host_frame = self._host_buffer(frame)
        self._frame = self._host_frame.to(self._device)
        self._prompt = torch.zeros(prompt_spec(bundle).shape, device=self._device)
        self._prompts = {
            task: torch.tensor(prompt[None]).to(self._device)
            for task, prompt in bundle.prompts.items()
        }
        tensors = {"frame": self._frame, "prompt": self._prompt}
        self._run_trunk = trunk.wired_to(tensors)
        self._run_decoder = decoder.wired_to(tensors)
        self._run_adapter = adapter.wired_to(tensors)
        self._image = self._host_buffer(frame)
        self._features = {task: self._host_buffer(features) for task in bundle.prompts}

    def run_trunk(self, frame: NDArray[np.uint8]) -> None:
        self._host_frame.numpy()[0] = frame
        if self._device.type != "cpu":
            self._frame.copy_(self._host_frame, non_blocking=True)
        self._run_trunk()

    def decode(self, task: str) -> NDArray[np.uint8]:
        return self._fetch(self._run_decoder, task, "image", self._image)

    def adapt(self, task: str) -> NDArray[np.float32]:
        return self._fetch(self._run_adapter, task, "features", self._features[task])

    def close(self) -> None:
        """Free the programs. Their graphs are full of reference cycles (each node refers to its
        graph), which would keep every weight alive until the collector's next full pass; in a
        process with many other objects that is a long time."""
        del self._run_trunk, self._run_decoder, self._run_adapter
        gc.collect()

    def _fetch(self, run: Run, task: str, output: str, buffer: Tensor) -> NDArray:
        self._prompt.copy_(self._prompts[task])
        buffer.copy_(run()[output])  # waits for the device
        array = buffer.numpy()[0]
        array.flags.writeable = False
        return array

    def _host_buffer(self, spec: TensorSpec) -> Tensor:
        """Pinned where a device reads or writes it."""
        dtype, pinned = getattr(torch, spec.dtype), self._device.type != "cpu"
        return torch.zeros(spec.shape, dtype=dtype, pin_memory=pinned)


class _Part:
    """An exported program, and the tensors that it declares, by name."""

    def __init__(self, bundle: Bundle, part: str, device: torch.device) -> None:
        self.file, self._device = PartFile(bundle, f"torch/{part}.pt2"), device
        try:
            program = torch.export.load(bundle.folder / self.file.path)
        except (RuntimeError, ValueError, KeyError) as error:
            built = bundle.manifest.backends["torch"].version
            self.file.refuse(f"PyTorch {torch.__version__} (exported with {built}) says: {error}")
        specs = {
            node.name: _spec(node.meta["val"])
            for node in program.graph.nodes
            if isinstance(node.meta.get("val"), Tensor)
        }
        signature, spec = program.graph_signature, program.call_spec.out_spec
        self.inputs = {name: specs[name] for name in signature.user_inputs}
        self.outputs = {
            name: specs[node]
            for name, node in zip(spec.context if spec else (), signature.user_outputs, strict=True)
        }
        if device.type != "cpu":
            program = move_to_device_pass(program, str(device))
        module = program.module(check_guards=False)
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.ndim == 4:
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
        self._module = _compiled(module, device)

    def wired_to(self, tensors: Tensors) -> Run:
        """A call that reads its inputs from ``tensors`` and leaves its outputs there too."""
        with torch.inference_mode():
            tensors.update(self._first(tensors))
            captured = self._captured(tensors) if self._device.type != "cpu" else None

        @torch.inference_mode()
        def run() -> Mapping[str, Tensor]:
            try:
                if captured is not None:
                    captured.replay()
                else:
                    tensors.update(self._module(**{name: tensors[name] for name in self.inputs}))
            except RuntimeError as error:
                raise InferenceError(f"{self.file.path}: {' '.join(str(error).split())}") from error
            return tensors

        return run

    def _first(self, tensors: Tensors) -> Tensors:
        self.file.check_inputs(self.inputs, {n: _spec(tensor) for n, tensor in tensors.items()})
        outputs: Tensors = self._module(**{name: tensors[name] for name in self.inputs})
        return outputs

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


def _spec(tensor: Tensor) -> TensorSpec:
    return TensorSpec(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def _device(number: int) -> torch.device:
    """The CUDA device of that number where PyTorch can use it, else the CPU, said aloud."""
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
    138 ms, the decoder 95 instead of 74, and compiling takes minutes at each start.
    """
    if device.type == "cpu" or importlib.util.find_spec("triton") is None:
        return module
    compiled: Callable[..., Tensors] = torch.compile(
        module, dynamic=False, mode="max-autotune-no-cudagraphs"
    )
    return compiled
