"""Measures of the node as it runs: processes that talk over DDS, with the shared-memory profile.

    python -m unirestore_ros.evaluate.node_bench overload --out overload.json
    python -m unirestore_ros.evaluate.node_bench relay --out relay.json
    python -m unirestore_ros.evaluate.node_bench startup --out startup.json

overload: 30 Hz into a slower node, all outputs subscribed: the age of frames, the growth of memory.
relay: the node disabled, beside a bare rclpy relay, at 1080p: rate held and latency added.
startup: process start to first restored frame, memory, frames per second.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unirestore_ros.evaluate.dds_measures import (
    CAMERA,
    NAMESPACE,
    NODE_NAME,
    RATE_HZ,
    SETTLE_S,
    Measures,
    Processes,
    family,
    has_loaded,
    latency,
    measure_parser,
    memory_mb,
    percentiles,
    rate,
    resident_together_mb,
    rounded,
    run_measure,
    sample_memory,
    settled,
)
from unirestore_ros.evaluate.node_roles import read_arrivals, read_diagnostics

NODE = f"{NAMESPACE}/{NODE_NAME}"
RELAYED = f"{NAMESPACE}/relayed"
TASKS = ("segmentation", "detection")
FEATURES = {f"{NODE}/{task}/features": "Image" for task in TASKS}


def measure_overload(group: Processes, options: argparse.Namespace) -> dict[str, Any]:
    """Compare memory between 1/5 of the time and its end: minutes 1 and 5 of five."""
    node = group.start_node(NAMESPACE, CAMERA, *_engine(options))
    group.start_role("diagnostics", str(group.folder / "diagnostics.json"), NODE)
    group.start_role("listener", str(group.folder / "arrivals.npz"), *_topics(_every_output()))
    group.start_role("camera", CAMERA, *options.size, str(RATE_HZ))
    memory = sample_memory(group, node.pid, options.seconds)
    group.end()
    arrivals = read_arrivals(group.folder / "arrivals.npz")
    reports = read_diagnostics(group.folder / "diagnostics.json")[int(SETTLE_S) + 10 :]
    inference_p99 = np.median([float(values["inference_p99_ms"]) for values in reports])
    return {
        "seconds": options.seconds,
        "fps": rate(arrivals[f"{NODE}/image"]),
        "inference_p99_ms": round(float(inference_p99), 1),
        "age_at_publication_p99_ms": float(np.median([float(v["age_p99_ms"]) for v in reports])),
        "age_at_arrival_ms": percentiles(latency(arrivals[f"{NODE}/image"])),
        "age_bound_ms": round(float(inference_p99) + 1e3 / RATE_HZ + 30, 1),
        **memory,
        "dropped": {key: int(v) for key, v in reports[-1].items() if key.startswith("dropped_")},
    }


def measure_relay(group: Processes, options: argparse.Namespace) -> dict[str, Any]:
    """Measure the latency that each adds to the camera's own topic, as one listener sees it."""
    group.start_node(NAMESPACE, CAMERA, f"bundle:={options.bundle}", "enabled:=false")
    group.start_role("relay", CAMERA, RELAYED)
    topics = {CAMERA: "Image", RELAYED: "Image", f"{NODE}/image": "Image"}
    group.start_role("listener", str(group.folder / "arrivals.npz"), *_topics(topics))
    group.wait(SETTLE_S)
    group.start_role("camera", CAMERA, *options.size, str(RATE_HZ))
    group.wait(options.seconds)
    group.end()
    arrivals = read_arrivals(group.folder / "arrivals.npz")
    node, relay = (
        _added(arrivals[CAMERA], arrivals[topic]) for topic in (f"{NODE}/image", RELAYED)
    )
    return {
        "seconds": options.seconds,
        "camera_hz": rate(arrivals[CAMERA]),
        "node_hz": rate(arrivals[f"{NODE}/image"]),
        "relay_hz": rate(arrivals[RELAYED]),
        "node_adds_ms": percentiles(node),
        "relay_adds_ms": percentiles(relay),
        "ratio": round(float(np.median(node) / np.median(relay)), 3),
    }


def measure_startup(group: Processes, options: argparse.Namespace) -> dict[str, Any]:
    """Start the node when the camera runs and the listener waits."""
    topics = {f"{NODE}/image": "Image", **FEATURES}
    group.start_role("camera", CAMERA, *options.size, str(RATE_HZ))
    group.start_role("listener", str(group.folder / "arrivals.npz"), *_topics(topics))
    group.start_role("diagnostics", str(group.folder / "diagnostics.json"), NODE)
    group.wait(SETTLE_S)
    started = time.time_ns()
    node = group.start_node(NAMESPACE, CAMERA, *_engine(options))
    group.wait(options.seconds)
    processes = family(node.pid)
    memory = {"node": memory_mb(node.pid), "engine": memory_mb(processes[-1])}
    together = resident_together_mb(processes)
    torch = any(has_loaded(pid, "libtorch") for pid in processes)
    group.end()
    arrivals = read_arrivals(group.folder / "arrivals.npz")
    last = read_diagnostics(group.folder / "diagnostics.json")[-1]
    return {
        "seconds": options.seconds,
        "mode": last["mode"],
        "backend": last["backend"],
        "first_frame_s": _first_s(arrivals[f"{NODE}/image"], started),
        # The first images are the camera's, while the engine is loaded; features are never.
        "first_restored_s": _first_s(arrivals[next(iter(FEATURES))], started),
        "fps": rate(arrivals[f"{NODE}/image"]),
        "features_fps": {topic: rate(arrivals[topic]) for topic in FEATURES},
        "inference_median_ms": milliseconds(last["inference_median_ms"]),
        "memory_mb": {name: rounded(of_process) for name, of_process in memory.items()},
        "resident_together_mb": round(together, 1),
        "torch_loaded": torch,
    }


def milliseconds(text: str) -> float | None:
    """Read a time in a node's diagnostics; None where there was nothing to measure."""
    value = float(text)
    return None if math.isnan(value) else value


def _first_s(seen: NDArray[np.int64], started_ns: int) -> float | None:
    """Compute when the first message arrived, in s; None where none did."""
    return round(float(seen[0, 1] - started_ns) * 1e-9, 2) if len(seen) else None


def _engine(options: argparse.Namespace) -> tuple[str, ...]:
    return f"bundle:={options.bundle}", f"backend:={options.backend}"


def _every_output() -> dict[str, str]:
    topics = {"image": "Image", "image/compressed": "CompressedImage", "camera_info": "CameraInfo"}
    for task in TASKS:
        topics |= {f"{task}/{name}": "Image" for name in ("features", "image")}
        topics[f"{task}/camera_info"] = "CameraInfo"
    topics["status"] = "DiagnosticArray"
    return {f"{NODE}/{name}": kind for name, kind in topics.items()}


def _topics(types: Mapping[str, str]) -> list[str]:
    return [f"{topic}:{kind}" for topic, kind in types.items()]


def _added(camera: NDArray[np.int64], passed: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute how much later frames arrive than by the camera's own topic (N,), in ms."""
    direct = dict(settled(camera).tolist())
    later = [at - direct[stamp] for stamp, at in passed.tolist() if stamp in direct]
    return np.array(later, np.float64) * 1e-6


MEASURES: Measures = {
    "overload": (measure_overload, "480x360", 300.0),
    "relay": (measure_relay, "1920x1080", 40.0),
    "startup": (measure_startup, "480x360", 30.0),
}


def main(argv: list[str] | None = None) -> int:
    return run_measure(measure_parser(__doc__ or "", MEASURES).parse_args(argv), MEASURES)


if __name__ == "__main__":
    sys.exit(main())
