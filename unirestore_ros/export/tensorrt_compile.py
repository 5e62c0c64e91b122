"""Compiling a bundle's ONNX files with TensorRT for the GPU at hand. No PyTorch: a vehicle does it.

Import it only where ``cuda_driver`` found a device.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from unirestore_ros.engine.backends.parts import dimension_sizes
from unirestore_ros.engine.backends.tensorrt_backend import log_level
from unirestore_ros.engine.backends.tensorrt_versions import VERSION, strongly_typed, trt
from unirestore_ros.engine.manifest import ENGINE_SUFFIX, PARTS
from unirestore_ros.engine.working_size import Size
from unirestore_ros.export.progress import BuildProgress
from unirestore_ros.files import written_beside

_log = logging.getLogger(__name__)


class CompileError(ValueError):
    """TensorRT refused a graph; the message holds all that it said, a line each."""


class Compiler:
    """``workspace``: bytes that a kernel may use beside its tensors, None: what the device has.
    ``timing_cache``: a file of kernel timings, read where it is there and written back."""

    def __init__(
        self, workspace: int | None, timing_cache: Path, sizes: tuple[Size, Size, Size]
    ) -> None:
        """``sizes``: the least, the usual and the largest padded working size (width, height)."""
        self._workspace, self._timing_cache = workspace, timing_cache
        self._dimensions = [dimension_sizes(size) for size in sizes]
        self._logger = _Logger()

    def compile_parts(self, folder: Path) -> None:
        """Write an engine beside each ONNX file in the folder ``tensorrt`` of a bundle."""
        for part in PARTS:
            engine = self.compile(folder / f"{part}.onnx")
            target = folder / f"{part}{ENGINE_SUFFIX}"
            with written_beside(target) as beside:
                beside.write_bytes(engine)

    def compile(self, onnx_file: Path) -> bytes:
        """The serialised engine; CompileError with everything that TensorRT said."""
        builder = trt.Builder(self._logger)
        network = builder.create_network(strongly_typed())
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse_from_file(str(onnx_file)):
            errors = [_parser_error(parser.get_error(i)) for i in range(parser.num_errors)]
            raise CompileError(
                f"TensorRT {VERSION} cannot read {onnx_file.name}:\n" + "\n".join(errors)
            )
        config = builder.create_builder_config()
        # float32 in the graph is there for its digits.
        config.clear_flag(trt.BuilderFlag.TF32)
        if self._workspace is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self._workspace)
        config.add_optimization_profile(self._profile(builder, network))
        self._read_timings(config)
        progress = BuildProgress(onnx_file.stem)
        monitor = _Monitor(progress)
        config.progress_monitor = monitor
        self._logger.errors.clear()
        try:
            serialized = builder.build_serialized_network(network, config)
        finally:
            progress.close()
        if serialized is None:
            said = "\n".join(self._logger.errors) or "nothing"
            raise CompileError(
                f"TensorRT {VERSION} cannot compile {onnx_file.name}; it said:\n{said}"
            )
        self._write_timings(config)
        return bytes(serialized)

    def _profile(self, builder: Any, network: Any) -> trt.IOptimizationProfile:
        """Let each input take every working size, fastest at the usual one."""
        profile = builder.create_optimization_profile()
        for tensor in (network.get_input(i) for i in range(network.num_inputs)):
            names = [tensor.get_dimension_name(i) for i in range(len(tensor.shape))]
            if -1 in tuple(tensor.shape):
                shapes = [
                    [sides.get(name, side) for name, side in zip(names, tensor.shape, strict=True)]
                    for sides in self._dimensions
                ]
                profile.set_shape(tensor.name, *shapes)
        return profile

    def _read_timings(self, config: trt.IBuilderConfig) -> None:
        content = self._timing_cache.read_bytes() if self._timing_cache.is_file() else b""
        cache = config.create_timing_cache(content)
        if not config.set_timing_cache(cache, ignore_mismatch=False):
            _log.warning("%s is of another GPU or TensorRT: starting anew", self._timing_cache)
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)

    def _write_timings(self, config: trt.IBuilderConfig) -> None:
        with written_beside(self._timing_cache) as beside:
            beside.write_bytes(bytes(config.get_timing_cache().serialize()))


def _parser_error(error: trt.ParserError) -> str:
    """All of a parser's error: the node, what is wrong with it, and where TensorRT noticed."""
    return (
        f"  node {error.node()} {error.node_name()} ({error.node_operator()}): {error.desc()} "
        f"[{error.code()}; {error.file()}:{error.line()} {error.func()}]"
    )


class _Monitor(trt.IProgressMonitor):
    def __init__(self, progress: BuildProgress) -> None:
        trt.IProgressMonitor.__init__(self)
        self._progress = progress

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        self._progress.phase_start(phase_name, parent_phase, num_steps)

    def step_complete(self, phase_name: str, step: int) -> bool:
        try:
            return self._progress.step_complete(phase_name, step)
        except KeyboardInterrupt:  # must not pass through TensorRT
            self._progress.cancelled = True
            return False

    def phase_finish(self, phase_name: str) -> None:
        self._progress.phase_finish(phase_name)


class _Logger(trt.ILogger):
    """TensorRT's messages in Python's log, and its errors kept to be raised."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        level = log_level(severity)
        if level >= logging.ERROR:
            self.errors.append(msg)
        _log.log(level, "TensorRT: %s", msg)
