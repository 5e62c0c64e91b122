"""The ``openvino`` backend: the ONNX graphs of ``onnxruntime/`` on a CPU.

It computes in bfloat16 where the processor does: in 0.4 of ONNX Runtime's time, with some 100 MB
more of memory. Elsewhere it computes in float32, in 0.6 of it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from unirestore_ros.engine.backends.openvino_norms import normalise_where_they_lie
from unirestore_ros.engine.backends.parts import (
    GAIN,
    IMAGE_DECODER,
    PartFile,
    TensorSpec,
    TensorSpecs,
    check_adapter,
    check_decoder,
    check_trunk,
    decoder_part,
    edge_specs,
    physical_cores,
)
from unirestore_ros.engine.bundle import Bundle, InferenceError
from unirestore_ros.engine.manifest import PARTS
from unirestore_ros.engine.working_size import Size
from unirestore_ros.files import private_folder, user_cache_folder
from unirestore_ros.memory import give_memory_back

_CPU = "CPU"
KEPT_SIZES = 8
"""Compiled forms of a graph that are kept; one of `tiny`'s three is 2 to 8 MB."""
_HINTS = {"bf16": "bf16", "fp32": "f32"}
"""OpenVINO's names of our precisions."""
_FEATURES = ("stem", "skip")
"""Beginnings of the names of large tensors between the parts: they stay in bfloat16 there too."""


class OpenVinoBackend:
    """Everything is allocated and connected when a size is pinned: decoder and adapter read what
    the trunk writes, in place. A task's prompt, and where its features go, are set before each run.
    """

    name = "openvino"

    def __init__(self, bundle: Bundle, threads: int, size: Size, gain: bool = True) -> None:
        """Compute in bfloat16 where OpenVINO says that the processor has it, else in float32."""
        precision = "bf16" if "BF16" in _capabilities() else "fp32"
        self.precision: Mapping[str, str] = dict.fromkeys(PARTS, precision)
        self._bundle = bundle
        names = {*PARTS, decoder_part(bundle, gain=False)}
        self._graphs = {name: _Graph(bundle, name, precision, threads) for name in names}
        self._prompts = {
            task: ov.Tensor(np.ascontiguousarray(prompt[None]))
            for task, prompt in bundle.prompts.items()
        }
        self.pin(size, gain)

    def pin(self, size: Size, gain: bool = True) -> None:
        decoder_name = decoder_part(self._bundle, gain)
        gives_gain = decoder_name != IMAGE_DECODER
        edges = edge_specs(self._bundle, size, gives_gain)
        trunk = self._graphs["trunk"].pinned({"frame": edges.image})
        specs = check_trunk(trunk, edges)
        decoder = self._graphs[decoder_name].pinned(specs)
        adapter = self._graphs["adapter"].pinned(specs)
        check_decoder(decoder, edges, specs)
        check_adapter(adapter, edges, specs)

        self._frame = _Buffer(edges.image)
        self._decoded = {name: _Buffer(spec) for name, spec in edges.decoded.items()}
        self._features = {task: _Buffer(edges.features) for task in self._prompts}
        self._trunk, self._decoder, self._adapter = trunk, decoder, adapter
        trunk.set({"frame": self._frame.tensor})
        shared = {"frame": self._frame.tensor, **trunk.made()}
        decoder.set({**shared, **{name: b.tensor for name, b in self._decoded.items()}})
        adapter.set(shared)
        self.size, self.gives_gain = size, gives_gain
        self._warm_up()

    def run_trunk(self, frame: NDArray[np.uint8]) -> None:
        self._frame.memory[0] = frame
        self._trunk.run()

    def decode(self, task: str) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        self._decoder.set({"prompt": self._prompts[task]})
        self._decoder.run()
        gain = self._decoded[GAIN].view if GAIN in self._decoded else None
        return self._decoded["image"].view, gain

    def adapt(self, task: str) -> NDArray[np.float32]:
        features = self._features[task]
        self._adapter.set({"prompt": self._prompts[task], "features": features.tensor})
        self._adapter.run()
        return features.view

    def close(self) -> None:
        """Nothing to do: requests and tensors are freed with this object."""

    def _warm_up(self) -> None:
        """Run every part once: kernels take their memory in the first run. Then return to the
        system what compiling left: 17 MB of `tiny`'s."""
        task = next(iter(self._prompts))
        self._trunk.run()
        self.decode(task)
        self.adapt(task)
        give_memory_back()


class _Buffer:
    """A tensor that OpenVINO reads or writes, its memory, and a read-only view of that without the
    batch axis."""

    def __init__(self, spec: TensorSpec) -> None:
        self.memory: NDArray[Any] = np.zeros(spec.shape, spec.dtype)
        self.tensor = ov.Tensor(self.memory, shared_memory=True)
        self.view = self.memory[0]
        self.view.flags.writeable = False


class _Graph:
    """A part's graph, read once and compiled for each size that is pinned."""

    def __init__(self, bundle: Bundle, part: str, precision: str, threads: int) -> None:
        self.file = PartFile(bundle, f"onnxruntime/{part}.onnx")
        self._precision, self._threads = precision, threads
        content = bundle.read_graph(self.file.path)
        self._cache = _cache_folder(bundle.manifest.files[self.file.path])
        try:
            self._graph = _core().read_model(content)
            normalise_where_they_lie(self._graph)
        except RuntimeError as error:
            self._refuse(error)

    def pinned(self, sources: TensorSpecs) -> _Part:
        """Compile the graph for inputs of these shapes."""
        try:
            graph = self._graph.clone()
            shapes = {
                port.any_name: list(sources[port.any_name].shape)
                for port in graph.inputs
                if port.any_name in sources and port.partial_shape.is_dynamic
            }
            if shapes:
                graph.reshape(shapes)
            options = _options(self._precision, self._threads)
            if self._cache is not None:
                _leave_room(self._cache)
                options["CACHE_DIR"] = str(self._cache)
            return _Part(self.file, graph, self._precision, options)
        except RuntimeError as error:
            self._refuse(error)

    def _refuse(self, error: RuntimeError) -> NoReturn:
        self.file.refuse(f"OpenVINO {ov.__version__} says: {error}")


class _Part:
    """A graph compiled for one size, its tensors by name, and the one request that runs it."""

    def __init__(
        self, file: PartFile, graph: ov.Model, precision: str, options: Mapping[str, object]
    ) -> None:
        self.file = file
        self.inputs, self.outputs = self._specs(graph.inputs), self._specs(graph.outputs)
        if precision == "bf16":
            graph = _with_features_in_bfloat16(graph)
        compiled = _core().compile_model(graph, _CPU, dict(options))
        self._request = compiled.create_infer_request()

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
        """Return the tensors that it writes to."""
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


def _cache_folder(graph_sha256: str) -> Path | None:
    """Return the folder of a graph's compiled forms, one for each size and choice of options; None
    where it is not private. They are code: who can write them can run what he likes."""
    cache = user_cache_folder() / "openvino"
    folder = cache / f"{graph_sha256[:16]}-{ov.__version__.split('-')[0]}"
    return folder if private_folder(cache) and private_folder(folder) else None


def _leave_room(folder: Path) -> None:
    """Delete the oldest compiled forms, so that a camera of ever other sizes fills no disk."""
    with contextlib.suppress(OSError):  # another node may delete the same; a disk be read-only
        files = sorted(folder.glob("*.blob"), key=lambda file: file.stat().st_mtime)
        for file in files[: -(KEPT_SIZES - 1)]:
            file.unlink(missing_ok=True)


@functools.cache
def _core() -> ov.Core:
    return ov.Core()


def _capabilities() -> Sequence[str]:
    found: Sequence[str] = _core().get_property(_CPU, "OPTIMIZATION_CAPABILITIES")
    return found
