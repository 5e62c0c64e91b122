"""What `make gpu` runs in processes of their own: each prints one line of JSON.

A process of its own, so that a crash or a CUDA error that stays ends one line of the report.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unirestore_ros.engine import BundleError, InferenceError, open_engine
from unirestore_ros.engine.backends import Backend, open_backend
from unirestore_ros.engine.bundle import Bundle, read_bundle
from unirestore_ros.engine.reference import Frame, decibels, read_frame, read_samples, sampled

TASKS = ("perception", "segmentation", "detection")
WARM_UP = 5
Answer = dict[str, Any]


def measure(bundle: str, backend: str, frames: str) -> Answer:
    """Load a bundle with a backend; its distance from the reference, bits and times.

    The parts run on the reference frame, at its size: so their outputs are the reference's.
    """
    start = time.perf_counter()
    found = read_bundle(Path(bundle))
    frame = read_frame(found)
    parts = open_backend(found, backend, 0, 0, (frame.shape[1], frame.shape[0]))
    loading = time.perf_counter() - start
    with contextlib.closing(parts):
        tasks = [task for task in TASKS if task in found.manifest.tasks]
        digests, times = set(), []
        for turn in range(WARM_UP + int(frames)):
            before = time.perf_counter()
            outputs = _outputs(parts, frame, tasks)
            if turn >= WARM_UP:
                times.append((time.perf_counter() - before) * 1e3)
            digests.add(hashlib.sha256(b"".join(o.tobytes() for o in outputs)).hexdigest())
        return {
            "precision": "+".join(sorted(set(parts.precision.values()))),
            "outputs": len(tasks),
            "median_ms": round(float(np.median(times)), 2),
            "p99_ms": round(float(np.percentile(times, 99)), 2),
            "runs": len(times),
            "load_s": round(loading, 1),
            "psnr_to_fp32_db": _distances(found, parts, frame),
            "same_bits": len(digests) == 1,
            "memory_mb": _device_memory(),
        }


def _outputs(parts: Backend, frame: Frame, tasks: list[str]) -> list[NDArray[Any]]:
    parts.run_trunk(frame)
    image, _ = parts.decode(tasks[0])
    return [image, *(parts.adapt(task) for task in tasks[1:])]


def _distances(bundle: Bundle, parts: Backend, frame: Frame) -> dict[str, float]:
    expected = read_samples(bundle)
    task = bundle.manifest.tasks[0]
    parts.run_trunk(frame)
    found: dict[str, NDArray[Any]] = {
        "image": parts.decode(task)[0],
        "features": parts.adapt(task),
    }
    return {
        name: round(min(decibels(sampled(name, value), expected[name]), 999), 1)
        for name, value in found.items()
    }


def _device_memory() -> float | None:
    """MiB that the driver counts for this process; None where nvidia-smi does not say."""
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=10).stdout.split("\n")
    except (OSError, subprocess.TimeoutExpired):
        return None
    used = dict(line.split(", ") for line in lines if ", " in line)
    found = used.get(str(os.getpid()), "")
    return float(found) if found.isdecimal() else None


def published(model: str, runs: str) -> Answer:
    """Time the published way on CUDA in eager PyTorch, and work out the floor of ours."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from unirestore_ros.evaluate.network_bench import PublishedWay
    from unirestore_ros.model import SD_TURBO
    from unirestore_ros.model.weights import load_weights, random_network

    if not torch.cuda.is_available():
        raise BundleError("PyTorch has no CUDA here")
    if model == "tiny":
        network, size = load_weights(Path("engines/weights/tiny.safetensors")), (368, 480)
    else:
        network, size = random_network(SD_TURBO), (512, 512)
    tasks = list(network.config.tasks)[:3]
    way = PublishedWay(network)
    way._network.cuda()
    images = torch.rand((1, 3, *size), device="cuda")

    def run() -> None:
        way(images, tasks)
        torch.cuda.synchronize()

    with FlopCounterMode(display=False) as counter:
        run()
    run()
    times = [_milliseconds(run) for _ in range(int(runs))]
    flops = counter.get_total_flops()
    rates = {name: _matrix_rate(getattr(torch, name)) for name in ("float32", "bfloat16")}
    return {
        "precision": "fp32, convolutions in TF32",  # as PyTorch has it by default
        "outputs": len(tasks),
        "median_ms": round(float(np.median(times)), 2),
        "p99_ms": round(float(np.percentile(times, 99)), 2),
        "runs": len(times),
        "tflop": round(flops / 1e12, 3),
        "matrix_tflops": rates,
        "floor_ms": {name: round(flops / rate / 1e9, 2) for name, rate in rates.items()},
        "memory_mb": round(torch.cuda.max_memory_allocated() / (1 << 20)),
    }


def _milliseconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def _matrix_rate(dtype: Any) -> float:
    """TFLOP/s of a product of square matrices."""
    import torch

    side, count = 8192, 10
    a = torch.rand((side, side), device="cuda").to(dtype)

    def run() -> None:
        for _ in range(count):
            a @ a
        torch.cuda.synchronize()

    run()
    return round(2 * side**3 * count / _milliseconds(run) / 1e9, 1)


def build(out: str, model: str, precision: str, *backends: str) -> Answer:
    """Build a bundle for these backends; `sd-turbo` of random weights."""
    import torch

    from unirestore_ros.export.bundle import write_from
    from unirestore_ros.export.compile import CompileOptions, compile_bundle
    from unirestore_ros.export.measure import frames_for
    from unirestore_ros.export.plan import Plan
    from unirestore_ros.export.recipe import read_recipe
    from unirestore_ros.model import SD_TURBO
    from unirestore_ros.model.weights import load_weights, random_network

    start = time.perf_counter()
    recipe = dataclasses.replace(
        read_recipe(Path(f"engines/{model}.yaml")), precision=precision, backends=backends, heads={}
    )
    network = load_weights(recipe.weights) if model == "tiny" else random_network(SD_TURBO)
    plan = Plan(network, recipe)
    if model != "tiny":
        plan.projection = torch.nn.Conv2d(plan.channels, 128, 1).requires_grad_(False)
        plan.channels = 128
    frames = frames_for(recipe.working_size, network.config.multiple, None)[:1]
    write_from(plan, "0" * 64, Path(out), frames, measure=False)
    compiled = [backend for backend in backends if backend.startswith("tensorrt")]
    if compiled:
        gpu = (os.environ["GPU_CAPABILITY"],)
        compile_bundle(Path(out), CompileOptions(gpus=gpu), compiled)
    return {"built_s": round(time.perf_counter() - start, 1)}


def fill_memory(bundle: str, backend: str) -> Answer:
    """Take all of the device's memory, then load: it must be refused in one line."""
    from unirestore_ros.engine.backends.tensorrt_versions import load_cudart

    cudart, size, held = load_cudart(), 1 << 34, 0
    cudart.cudaSetDevice(0)
    while size >= 1 << 20:
        status, _ = cudart.cudaMalloc(size)
        held, size = (held + size, size) if int(status) == 0 else (held, size // 2)
    try:
        open_engine(Path(bundle), backend).close()
    except (BundleError, InferenceError) as error:
        return {"held_gb": round(held / 1e9, 1), "refused": " ".join(str(error).split())}
    return {"held_gb": round(held / 1e9, 1), "refused": None}


def break_context(bundle: str, backend: str) -> Answer:
    """Leave a CUDA error that stays, by a kernel that reads out of bounds; run a frame then."""
    import torch

    if not torch.cuda.is_available():
        raise BundleError("PyTorch, which makes the error, has no CUDA here")
    with open_engine(Path(bundle), backend) as engine:
        frame = read_frame(engine.bundle)
        engine.run_trunk(frame)
        with contextlib.suppress(RuntimeError):  # as intended: it stays for every later call
            torch.zeros(1, device="cuda")[torch.tensor([1 << 40], device="cuda")].cpu()
        try:
            engine.run_trunk(frame)
        except InferenceError as error:
            return {"said": str(error).split("\n")[0]}
    return {"said": None}


def run_until_killed(bundle: str, backend: str) -> Answer:
    """Run frames until the parent kills the process."""
    with open_engine(Path(bundle), backend) as engine:
        frame = read_frame(engine.bundle)
        while True:
            engine.run_trunk(frame)
            print("running", flush=True)


PROBES: dict[str, Callable[..., Answer]] = {
    probe.__name__: probe
    for probe in (measure, published, build, fill_memory, break_context, run_until_killed)
}


def main() -> None:
    name, *arguments = sys.argv[1:]
    try:
        answer = PROBES[name](*arguments)
    except (BundleError, InferenceError, ValueError, OSError, RuntimeError) as error:
        answer = {"problem": " ".join(str(error).split())[:500]}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
