"""Compile a bundle's exported parts for this GPU, with progress; on an error it stays as it was."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

from tqdm import tqdm

from unirestore_ros.engine.backends import cuda_driver, missing_package
from unirestore_ros.engine.bundle import Bundle, BundleError, read_bundle
from unirestore_ros.engine.manifest import ENGINE_SUFFIX, BackendInfo
from unirestore_ros.engine.writing import link_files, write_bundle
from unirestore_ros.files import folder_written_beside

_TICKS = 1000


def compile_bundle(
    folder: Path, device_id: int = 0, workspace: int | None = None, timing_cache: Path | None = None
) -> Bundle:
    """Compile the ONNX files of ``tensorrt/`` and put the engines beside them.

    ``workspace`` in bytes. BundleError where there is nothing to compile or to compile it with;
    ValueError with all that TensorRT said where it refuses a graph.
    """
    bundle = read_bundle(folder)
    if "tensorrt" not in bundle.manifest.backends:
        raise BundleError(
            f"bundle {folder}: it holds nothing for TensorRT to compile",
            bundle.build_command("--backend", "tensorrt", "--onnx-only"),
        )
    device = check_compiler(device_id)
    from unirestore_ros.engine.backends.tensorrt_versions import VERSION
    from unirestore_ros.export.tensorrt_compile import Compiler

    cache = timing_cache or default_timing_cache(VERSION, device)
    info = BackendInfo(VERSION, device.name, device.compute_capability)
    manifest = dataclasses.replace(
        bundle.manifest, backends={**bundle.manifest.backends, "tensorrt": info}
    )
    with folder_written_beside(folder) as beside:
        link_files(bundle, beside, lambda path: not path.endswith(ENGINE_SUFFIX))
        Compiler(workspace, cache).compile_parts(beside / "tensorrt")
        write_bundle(beside, manifest, bundle.prompts)
    return read_bundle(folder)


def default_timing_cache(version: str, device: cuda_driver.Device) -> Path:
    """Return the path of the timings for this version and GPU, in the user's cache folder."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    gpu = "".join(c if c.isalnum() else "-" for c in device.name)
    return root / "unirestore_ros" / f"tensorrt-{version}-{gpu}-{device.compute_capability}.timing"


def check_compiler(device_id: int) -> cuda_driver.Device:
    """Return the device to compile for; BundleError unless it and all of TensorRT are there."""
    try:
        device = cuda_driver.device(device_id)
    except cuda_driver.CudaError as error:
        raise BundleError(
            f"TensorRT compiles on the GPU that will run the bundle: {error}",
            "--onnx-only here, then `python -m unirestore_ros build FOLDER` on the vehicle",
        ) from error
    if missing := missing_package("tensorrt"):
        raise BundleError(f"the Python package {missing} is not installed", "see engines/README.md")
    from unirestore_ros.engine.backends.tensorrt_versions import can_build

    if not can_build():
        raise BundleError(
            "the TensorRT here is the run-time half only, which compiles nothing",
            "install the whole of it: see engines/README.md",
        )
    return device


@dataclasses.dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildProgress:
    """What an IProgressMonitor is told, from any thread. Each outermost phase fills the bar once; a
    phase within a phase fills the step that the outer one is at."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._phases: dict[str, _Phase] = {}
        self._lock = threading.Lock()
        form = "{desc} {percentage:3.0f} %|{bar}| {elapsed}, {remaining} left"
        self._bar = tqdm(total=_TICKS, desc=title, bar_format=form)
        self.cancelled = False

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        with self._lock:
            if parent_phase is None and self.fraction() == 1:
                self._phases.clear()
                self._bar.reset()
            if parent_phase is None:
                self._bar.set_description(f"{self._title}: {phase_name}", refresh=False)
            self._phases[phase_name] = _Phase(parent_phase, max(num_steps, 1))
            self._show()

    def step_complete(self, phase_name: str, step: int) -> bool:
        """False, after a Ctrl-C, asks TensorRT to stop."""
        with self._lock:
            if phase_name in self._phases:
                self._phases[phase_name].done = step + 1
                self._show()
        return not self.cancelled

    def phase_finish(self, phase_name: str) -> None:
        with self._lock:
            phase = self._phases.get(phase_name)
            if phase is not None:
                phase.done = phase.steps
                self._show()
                if phase.parent is not None:
                    del self._phases[phase_name]

    def fraction(self) -> float:
        """Done of all outermost phases that have begun, 0 to 1."""
        outermost = [name for name, phase in self._phases.items() if phase.parent is None]
        return sum(map(self._fraction_of, outermost)) / max(len(outermost), 1)

    def close(self) -> None:
        self._bar.close()

    def _fraction_of(self, name: str) -> float:
        phase = self._phases[name]
        within = [
            self._fraction_of(child)
            for child, other in self._phases.items()
            if other.parent == name
        ]
        part = min(sum(within) / len(within), 1.0) if within and phase.done < phase.steps else 0.0
        return min((phase.done + part) / phase.steps, 1.0)

    def _show(self) -> None:
        """Never backwards, as a second outermost phase would have it."""
        self._bar.n = max(self._bar.n, int(_TICKS * self.fraction()))
        self._bar.refresh()
