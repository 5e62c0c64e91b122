"""The ``openvino`` backend: the ONNX graphs of ``onnxruntime/`` on a CPU that computes in bfloat16.

Only when it is named: it takes half of ONNX Runtime's time for some 70 MB more of memory. Where the
processor has no bfloat16 it computes in float32, in which nothing is gained.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from unirestore_ros.engine.backends.parts import (
    PartFile,
    TensorSpec,
    feature_spec,
    frame_spec,
    physical_cores,
    prompt_spec,
)
from unirestore_ros.engine.bundle import Bundle, InferenceError
from unirestore_ros.engine.manifest import PARTS

_CPU = "CPU"
_HINTS = {"bf16": "bf16", "fp32": "f32"}
"""By our name of a precision, OpenVINO's."""
_FEATURES = ("stem", "skip")
"""How the names of large tensors between the parts begin: they stay in bfloat16 there too."""


class OpenVinoBackend:
    """Everything is allocated and wired when it is opened: decoder and adapter read what the trunk
    writes, in place. A task's prompt, and where its features go, are set before each run."""

    name = "openvino"

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        """In bfloat16 where OpenVINO says that the processor has it, else in float32."""
        precision = "bf16" if "BF16" in _capabilities() else "fp32"
        self.precision: Mapping[str, str] = dict.fromkeys(PARTS, precision)
        trunk, decoder, adapter = (_Part(bundle, part, precision, threads) for part in PARTS)
        image, features = frame_spec(bundle), feature_spec(bundle)
        trunk.file.check_output("frame", trunk.inputs, image)
        decoder.file.check_output("image", decoder.outputs, image)
        adapter.file.check_output("features", adapter.outputs, features)
        specs = {"frame": image}
        trunk.file.check_inputs(trunk.inputs, specs)
        specs |= {"prompt": prompt_spec(bundle), **trunk.outputs}
        decoder.file.check_inputs(decoder.inputs, specs)
        adapter.file.check_inputs(adapter.inputs, specs)

        self._frame, self._image = _Buffer(image), _Buffer(image)
        self._features = {task: _Buffer(features) for task in bundle.prompts}
        self._prompts = {
            task: ov.Tensor(np.ascontiguousarray(prompt[None]))
            for task, prompt in bundle.prompts.items()
        }
        self._trunk, self._decoder, self._adapter = trunk, decoder, adapter
        trunk.set({"frame": self._frame.tensor})
        shared = {"frame": self._frame.tensor, **trunk.made()}
        decoder.set({**shared, "image": self._image.tensor})
        adapter.set(shared)
        self._warm_up()

    def run_trunk(self, frame: NDArray[np.uint8]) -> None:
        self._frame.memory[0] = frame
        self._trunk.run()

    def decode(self, task: str) -> NDArray[np.uint8]:
        self._decoder.set({"prompt": self._prompts[task]})
        self._decoder.run()
        return self._image.view

    def adapt(self, task: str) -> NDArray[np.float32]:
        features = self._features[task]
        self._adapter.set({"prompt": self._prompts[task], "features": features.tensor})
        self._adapter.run()
        return features.view

    def close(self) -> None:
        """Nothing to do: requests and tensors are freed with this object."""

    def _warm_up(self) -> None:
        """Kernels take their memory in the first run. Then what compiling left goes: 17 MB of
        `tiny`'s."""
        task = next(iter(self._prompts))
        self._trunk.run()
        self.decode(task)
        self.adapt(task)
        _give_memory_back()


class _Buffer:
    """A tensor that OpenVINO reads or writes, its memory, and a read-only view of that without the
    batch axis."""

    def __init__(self, spec: TensorSpec) -> None:
        self.memory: NDArray[Any] = np.zeros(spec.shape, spec.dtype)
        self.tensor = ov.Tensor(self.memory, shared_memory=True)
        self.view = self.memory[0]
        self.view.flags.writeable = False


class _Part:
    """A compiled graph, the tensors that it declares, by name, and the one request that runs it."""

    def __init__(self, bundle: Bundle, part: str, precision: str, threads: int) -> None:
        self.file = PartFile(bundle, f"onnxruntime/{part}.onnx")
        try:
            graph = _core().read_model(bundle.folder / self.file.path)
            self.inputs, self.outputs = self._specs(graph.inputs), self._specs(graph.outputs)
            if precision == "bf16":
                graph = _with_features_in_bfloat16(graph)
            compiled = _core().compile_model(graph, _CPU, _options(precision, threads))
            self._request = compiled.create_infer_request()
        except RuntimeError as error:
            self.file.refuse(f"OpenVINO {ov.__version__} says: {error}")

    def _specs(self, ports: Sequence[Any]) -> dict[str, TensorSpec]:
        for port in ports:
            if port.partial_shape.is_dynamic:
                self.file.refuse(f"{port.any_name} must be of fixed shape, is {port.partial_shape}")
        return {
            port.any_name: TensorSpec(port.element_type.to_dtype().name, tuple(port.shape))
            for port in ports
        }

    def set(self, tensors: Mapping[str, ov.Tensor]) -> None:
        """Have it read and write these, as far as it knows their names."""
        for name, tensor in tensors.items():
            if name in self.inputs or name in self.outputs:
                self._request.set_tensor(name, tensor)

    def made(self) -> dict[str, ov.Tensor]:
        """The tensors that it writes to."""
        return {name: self._request.get_tensor(name) for name in self.outputs}

    def run(self) -> None:
        try:
            self._request.infer(share_outputs=True)  # else it would copy every output
        except RuntimeError as error:
            text = " ".join(str(error).split())
            raise InferenceError(f"{self.file.path}: {text}") from error


def _with_features_in_bfloat16(graph: ov.Model) -> ov.Model:
    """Half of the bytes and of the memory; the part that reads them would cast them anyway."""
    edges = ov.preprocess.PrePostProcessor(graph)
    for ports, edge in ((graph.inputs, edges.input), (graph.outputs, edges.output)):
        for port in ports:
            if port.any_name.startswith(_FEATURES) and port.element_type == ov.Type.f32:
                edge(port.any_name).tensor().set_element_type(ov.Type.bf16)
    return edges.build()


def _options(precision: str, threads: int) -> dict[str, object]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads or physical_cores(),
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        # Threads bound to cores would wait for whatever else of the vehicle runs on these.
        "ENABLE_CPU_PINNING": False,
    }


@functools.cache
def _core() -> ov.Core:
    return ov.Core()


def _capabilities() -> Sequence[str]:
    found: Sequence[str] = _core().get_property(_CPU, "OPTIMIZATION_CAPABILITIES")
    return found


def _give_memory_back() -> None:
    """Have the allocator return what is free to the system, where it is one that can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
