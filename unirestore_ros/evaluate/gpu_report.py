"""`make gpu`: what only a machine with an NVIDIA GPU can show, in five minutes: JSON and a table.

It measures every backend that is installed, and says what it left out and why.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from unirestore_ros.engine.backends import cuda_driver, missing_module, missing_package
from unirestore_ros.engine.backends.tensorrt_versions import MODULES, RTX
from unirestore_ros.files import written_beside
from unirestore_ros.tables import markdown_table

MODULE = "unirestore_ros.evaluate.gpu_probes"
GPU_BACKENDS = ("tensorrt", RTX, "torch", "onnxruntime")
HEAD = ("model", "backend", "precision", "median ms", "p99 ms", "image dB", "features dB", "bits")
Answer = dict[str, Any]


class Session:
    """The time that is left, and what was found so far."""

    def __init__(self, card: cuda_driver.Device, minutes: float) -> None:
        self.card, self._end = card, time.monotonic() + 60 * minutes
        self.rows: list[Answer] = []
        self.faults: list[Answer] = []
        self.left_out: dict[str, str] = {}

    @property
    def left(self) -> float:
        return self._end - time.monotonic()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "GPU_CAPABILITY": self.card.compute_capability}
        command = [sys.executable, "-m", MODULE, *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def finish(self, process: subprocess.Popen[str]) -> Answer:
        """Wait for a probe's answer, as long as there is time."""
        try:
            text, _ = process.communicate(timeout=max(self.left, 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return {"problem": "no time was left for it"}
        lines = text.strip().splitlines()
        if process.returncode or not lines:
            return {"problem": f"it ended with status {process.returncode}"}
        answer: Answer = json.loads(lines[-1])
        return answer

    def probe(self, what: str, *arguments: str) -> Answer | None:
        """Run a probe; None, with the reason noted, where it brings nothing."""
        if self.left < 5:
            self.left_out[what] = "no time was left for it"
            return None
        answer = self.finish(self.start(*arguments))
        if "problem" in answer:
            self.left_out[what] = answer["problem"]
            return None
        return answer


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("make gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/gpu"), help="folder for the report")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--models", default="tiny,sd-turbo")
    parser.add_argument("--bundle", type=Path, help="measure this bundle as tiny, and build none")
    arguments = parser.parse_args(argv)
    try:
        card = cuda_driver.device(0)
    except cuda_driver.CudaError as error:
        sys.stderr.write(f"make gpu: {error}\n")
        return 1
    session = Session(card, arguments.minutes)
    with tempfile.TemporaryDirectory(prefix="unirestore_gpu_") as folder:
        _measure_all(session, Path(folder), arguments)
    _write(session, arguments.out)
    return 0 if session.rows else 1


def _measure_all(session: Session, folder: Path, arguments: argparse.Namespace) -> None:
    backends = _installed(session)
    models = [model for model in arguments.models.split(",") if model]
    builds = {} if arguments.bundle else _start_builds(session, folder, models, backends)
    if arguments.bundle:
        _measure(session, "tiny", arguments.bundle, backends, arguments.frames)
        _faults(session, arguments.bundle, backends)
    for model in models:
        answer = session.probe(f"{model}: the published way", "published", model, "10")
        if answer:
            session.rows.append({"model": model, "backend": "published, eager torch", **answer})
    for (model, precision), process in builds.items():
        answer = session.finish(process)
        if "problem" in answer:
            session.left_out[f"{model} in {precision}: building"] = answer["problem"]
            continue
        bundle = folder / f"{model}-{precision}"
        _measure(session, model, bundle, _of_bundle(bundle), arguments.frames)
    smallest = next((b for b in sorted(folder.glob("tiny-*")) if b.is_dir()), None)
    if smallest:
        _faults(session, smallest, _of_bundle(smallest))


def _installed(session: Session) -> list[str]:
    found = []
    for name in GPU_BACKENDS:
        missing = missing_package(name)
        if missing is not None:
            session.left_out[name] = f"the Python package {missing} is not installed"
        elif name == "onnxruntime" and not _has_cuda_provider():
            session.left_out[name] = "this ONNX Runtime has no CUDA provider"
        else:
            found.append(name)
    return found


def _has_cuda_provider() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _start_builds(
    session: Session, folder: Path, models: list[str], backends: list[str]
) -> dict[tuple[str, str], subprocess.Popen[str]]:
    """Start building at once, in processes beside the measuring; each in half for GPUs alone."""
    started = {}
    for model in models:
        for precision in ("bf16", "fp32") if model == "tiny" else ("bf16",):
            wanted = [b for b in backends if b != "onnxruntime" or precision == "fp32"]
            wanted = [b for b in wanted if b != RTX or session.card.compute_capability in _rtx()]
            out = str(folder / f"{model}-{precision}")
            if wanted:
                started[model, precision] = session.start("build", out, model, precision, *wanted)
    return started


def _rtx() -> tuple[str, ...]:
    return () if missing_module(RTX) else cuda_driver.RTX_CARDS


def _of_bundle(bundle: Path) -> list[str]:
    return [name for name in GPU_BACKENDS if (bundle / name).is_dir()]


def _measure(session: Session, model: str, bundle: Path, backends: list[str], frames: int) -> None:
    for backend in backends:
        if not (bundle / backend).is_dir():
            continue
        answer = session.probe(f"{model}: {backend}", "measure", str(bundle), backend, str(frames))
        if answer:
            session.rows.append({"model": model, "backend": backend, **answer})


def _faults(session: Session, bundle: Path, backends: list[str]) -> None:
    ours = (*MODULES, "torch")  # ONNX Runtime sees to its device itself
    for backend in (name for name in backends if (bundle / name).is_dir() and name in ours):
        for fault in ("fill_memory", "break_context"):
            answer = session.probe(f"{fault} with {backend}", fault, str(bundle), backend)
            if answer:
                session.faults.append({"fault": fault, "backend": backend, **answer})
        _kill(session, bundle, backend)


def _kill(session: Session, bundle: Path, backend: str) -> None:
    """Kill a process that runs frames, and load the bundle again: the device must be free."""
    process = session.start("run_until_killed", str(bundle), backend)
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if line != "running":
        process.kill()
        process.communicate()
        session.left_out[f"killing with {backend}"] = line or "it ended before it ran"
        return
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    start = time.monotonic()
    answer = session.probe(f"killing with {backend}", "measure", str(bundle), backend, "1")
    if answer:
        seconds = round(time.monotonic() - start, 1)
        session.faults.append(
            {"fault": "killed", "backend": backend, "runs_again_after_s": seconds}
        )


def _write(session: Session, folder: Path) -> None:
    card = session.card
    meta = {
        "gpu": card.name,
        "compute_capability": card.compute_capability,
        "python": platform.python_version(),
    }
    report = {
        "meta": meta,
        "rows": session.rows,
        "faults": session.faults,
        "left_out": session.left_out,
    }
    with written_beside(folder / "gpu.json") as beside:
        beside.write_text(json.dumps(report, indent=1) + "\n")
    text = f"{card.name}, compute capability {card.compute_capability}\n\n"
    text += markdown_table(HEAD, [_cells(row) for row in session.rows])
    text += "".join(f"\n- {json.dumps(fault)}" for fault in session.faults)
    text += "".join(f"\n- left out: {what}: {why}" for what, why in session.left_out.items())
    with written_beside(folder / "gpu.md") as beside:
        beside.write_text(text + "\n")
    sys.stdout.write(text + f"\n\n{folder / 'gpu.json'}\n")


def _cells(row: Answer) -> tuple[str | float | None, ...]:
    distance = row.get("psnr_to_fp32_db", {})
    bits = {True: "same", False: "DIFFER"}.get(row.get("same_bits"))  # type: ignore[arg-type]
    return (
        row["model"],
        row["backend"],
        row["precision"],
        row["median_ms"],
        row["p99_ms"],
        distance.get("image"),
        distance.get("features"),
        bits,
    )


if __name__ == "__main__":
    sys.exit(main())
