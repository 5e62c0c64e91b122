"""Compile a part's ONNX file with TensorRT or TensorRT for RTX. No PyTorch: a vehicle does it.

For TensorRT, import it only where ``cuda_driver`` found a device; TensorRT for RTX needs none.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirestore_ros.engine.backends.parts import dimension_sizes
from unirestore_ros.engine.backends.tensorrt_versions import (
    TensorRT,
    describe_layers,
    log_level,
    sides_of,
    without_garbage_collection,
)
from unirestore_ros.engine.manifest import ENGINE_SUFFIX, PARTS
from unirestore_ros.engine.working_size import Size
from unirestore_ros.export.progress import BuildProgress
from unirestore_ros.files import written_beside

if TYPE_CHECKING:
    import tensorrt as trt

_log = logging.getLogger(__name__)


class CompileError(ValueError):
    """TensorRT refused a graph; the message holds all that it said, a line each."""


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A serialised engine, and what it took."""

    engine: memoryview
    layers: int
    """Layers of the network as it was read, before anything is fused."""
    seconds: float

    def __str__(self) -> str:
        megabytes = self.engine.nbytes / 1e6
        return f"{self.layers} layers, {megabytes:.1f} MB, {self.seconds:.1f} s"


class Compiler:
    """Compiles strongly typed graphs: every tensor has the type that the graph gives it."""

    def __init__(
        self, api: TensorRT, sizes: tuple[Size, Size, Size], workspace: int | None = None
    ) -> None:
        """``sizes``: the least, the usual and the largest padded working size (width, height).

        ``workspace``: bytes that a kernel may use beside its tensors, None: what the device has.
        """
        self._api, self._workspace = api, workspace
        self._dimensions = [dimension_sizes(size) for size in sizes]
        self.gpus: Sequence[str] = ()
        """Compute capabilities to compile for, with TensorRT for RTX."""
        self.timing_cache: Path | None = None
        """File of kernel timings, read where it is there and written back; of TensorRT only."""
        self.layer_list: list[str] | None = None
        """Set to a list, it receives a line for each layer that was made: ``layer_list``."""
        self._errors: list[str] = []
        self._logger = api.logger(self._log)

    def compile_parts(self, folder: Path) -> None:
        """Write an engine beside each ONNX file in a backend's folder of a bundle."""
        for part in PARTS:
            compiled = self.compile(folder / f"{part}.onnx")
            _log.info("%s: %s", part, compiled)
            with written_beside(folder / f"{part}{ENGINE_SUFFIX}") as beside:
                beside.write_bytes(compiled.engine)

    @without_garbage_collection()
    def compile(self, onnx_file: Path) -> Compiled:
        """Compile one graph; CompileError with everything that TensorRT said."""
        start = time.monotonic()
        self._errors.clear()
        builder = self._api.module.Builder(self._logger)
        network = builder.create_network(self._api.network_flags())
        self._parse(network, onnx_file)
        config = self._configured(builder, network)
        progress = BuildProgress(onnx_file.stem)
        config.progress_monitor = monitor = _monitor(self._api, progress)
        try:
            serialized = builder.build_serialized_network(network, config)
        finally:
            progress.close()
            del monitor
        if serialized is None:
            if progress.cancelled:
                raise KeyboardInterrupt
            said = [*self._errors, *describe_layers(network, self._errors)] or ["nothing"]
            raise CompileError(
                f"{self._api.product} cannot compile {onnx_file.name}; it said:\n" + "\n".join(said)
            )
        self._write_timings(config)
        return Compiled(memoryview(serialized), network.num_layers, time.monotonic() - start)

    def _parse(self, network: trt.INetworkDefinition, onnx_file: Path) -> None:
        parser = self._api.module.OnnxParser(network, self._logger)
        if not parser.parse_from_file(str(onnx_file)):
            errors = [_parser_error(parser.get_error(i)) for i in range(parser.num_errors)]
            errors += describe_layers(network, errors)
            raise CompileError(
                f"{self._api.product} cannot read {onnx_file.name}:\n" + "\n".join(errors)
            )

    def _configured(
        self, builder: trt.Builder, network: trt.INetworkDefinition
    ) -> trt.IBuilderConfig:
        config = builder.create_builder_config()
        # On by default; float32 in the graph is there for its digits.
        config.clear_flag(self._api.module.BuilderFlag.TF32)
        self._api.free_scratch_to_shapes(config)
        if self.layer_list is not None:
            config.profiling_verbosity = self._api.module.ProfilingVerbosity.DETAILED
        if self._workspace is not None:
            pool = self._api.module.MemoryPoolType.WORKSPACE
            config.set_memory_pool_limit(pool, self._workspace)
        if self.gpus:
            self._api.name_gpus(config, self.gpus)
        config.add_optimization_profile(self._profile(builder, network))
        self._read_timings(config)
        return config

    def _profile(
        self, builder: trt.Builder, network: trt.INetworkDefinition
    ) -> trt.IOptimizationProfile:
        """Let each input take every working size, fastest at the usual one."""
        profile: Any = (
            builder.create_optimization_profile()
        )  # takes lists, which its types leave out
        for tensor in (network.get_input(i) for i in range(network.num_inputs)):
            declared = sides_of(tensor.shape)
            names = [tensor.get_dimension_name(i) for i in range(len(declared))]
            if -1 in declared:
                shapes = [
                    [sides.get(name, side) for name, side in zip(names, declared, strict=True)]
                    for sides in self._dimensions
                ]
                profile.set_shape(tensor.name, *shapes)
        made: trt.IOptimizationProfile = profile
        return made

    def _read_timings(self, config: trt.IBuilderConfig) -> None:
        file = self.timing_cache
        if file is None:
            return
        content = file.read_bytes() if file.is_file() else b""
        cache = config.create_timing_cache(content)
        if not config.set_timing_cache(cache, ignore_mismatch=False):
            _log.warning("%s is of another GPU or TensorRT: starting anew", file)
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)

    def _write_timings(self, config: trt.IBuilderConfig) -> None:
        if self.timing_cache is not None:
            with written_beside(self.timing_cache) as beside:
                beside.write_bytes(bytes(config.get_timing_cache().serialize()))

    def _log(self, severity: str, message: str) -> None:
        """Put a message in Python's log, and keep errors to be raised."""
        level = log_level(severity)
        if level >= logging.ERROR:
            self._errors.append(message)
        if self.layer_list is not None:
            self.layer_list += [line for line in message.splitlines() if "LayerType: " in line]
        _log.log(level, "TensorRT: %s", message)


def _parser_error(error: trt.ParserError) -> str:
    """All of a parser's error: the node, what is wrong with it, and where TensorRT noticed."""
    return (
        f"  node {error.node()} {error.node_name()} ({error.node_operator()}): {error.desc()} "
        f"[{error.code()}; {error.file()}:{error.line()} {error.func()}]"
    )


def _monitor(api: TensorRT, progress: BuildProgress) -> trt.IProgressMonitor:
    """Let a progress bar show what TensorRT reports of its phases."""
    base: Any = api.module.IProgressMonitor

    class Monitor(base):
        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.phase_start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                return progress.step_complete(phase_name, step)
            except KeyboardInterrupt:  # must not pass through TensorRT
                progress.cancelled = True
                return False

        def phase_finish(self, phase_name: str) -> None:
            progress.phase_finish(phase_name)

    monitor: trt.IProgressMonitor = Monitor()
    return monitor
