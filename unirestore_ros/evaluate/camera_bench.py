"""What cameras of several sizes, and several cameras at once, cost on this machine.

    python -m unirestore_ros.evaluate.camera_bench sizes --out sizes.json
    python -m unirestore_ros.evaluate.camera_bench several --out several.json
    python -m unirestore_ros.evaluate.camera_bench change --out change.json
    python -m unirestore_ros.evaluate.camera_bench transport --out transport.json

sizes: image and both features of frames of five sizes: the engine alone, each size in turn, and
then through the node, a camera of 30 Hz for each.
change: a camera of 480x360 at 30 Hz takes another size in mid-stream: how long until its image of
that size comes, and the first restored one; with each backend, OpenVINO with and without a cache.
several: 2, 4 and 6 cameras of 640x480 at 30 Hz, each with a node of its own; image and one feature
map of each.
transport: the largest images between two processes, no node: how many of those sent arrive.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unirestore_ros.engine import Engine, open_engine
from unirestore_ros.engine.detail import DetailKeeper
from unirestore_ros.engine.working_size import Size
from unirestore_ros.evaluate.dds_measures import (
    CAMERA,
    NAMESPACE,
    RATE_HZ,
    SETTLE_S,
    Measures,
    Processes,
    family,
    measure_parser,
    rate,
    resident_together_mb,
    run_measure,
)
from unirestore_ros.evaluate.node_bench import NODE, TASKS, measure_startup
from unirestore_ros.evaluate.node_roles import read_arrivals
from unirestore_ros.evaluate.timing import Spent, spent_by
from unirestore_ros.synthetic.drive import demo_frames
from unirestore_ros.tasks import DRIVERS_TASK

SIZES: tuple[Size, ...] = ((480, 360), (640, 480), (1280, 720), (1920, 1080), (3840, 2160))
CAMERAS = (2, 4, 6)
CAMERAS_SIZE = (640, 480)
RUNS, WARM_UP = 20, 3
BEFORE = ("480", "360", str(RATE_HZ))
CHANGES = (("1280", "720", str(RATE_HZ)), ("3840", "2160", "2"))
"""Sizes that a camera of 480x360 changes to, each at a rate that two cores carry."""
IMAGE, MAP = f"{NODE}/image", f"{NODE}/{TASKS[0]}/features"
LARGEST = (("3840", "2160", "5", "bgra8"), ("4096", "4096", "2", "bgra8"))
RELIABILITIES = ("reliable", "best_effort")
BACKENDS = ("onnxruntime", "openvino cold", "openvino warm")


def measure_sizes(group: Processes, options: argparse.Namespace) -> dict[str, Any]:
    """Measure the engine alone, then the node, with frames of each size."""
    alone = _engine_alone(options.bundle, options.backend)
    through = {size: _through_node(options, size) for size in SIZES}
    return {
        "sizes": [
            {"size": "x".join(map(str, size)), "engine": alone[size], "node": through[size]}
            for size in SIZES
        ],
        "ratio_1920x1080_to_480x360": round(
            alone[1920, 1080]["median_ms"] / alone[480, 360]["median_ms"], 3
        ),
    }


def _engine_alone(bundle: str, backend: str) -> dict[Size, dict[str, float]]:
    """Time image and features of one frame after another, the sizes in turn: in ms."""
    works: dict[Size, Callable[[], object]] = {}
    details: dict[Size, Callable[[], object]] = {}
    for size in SIZES:
        frame = next(iter(demo_frames(5, size))).degraded
        engine = open_engine(bundle, backend, frame_size=size)
        works[size] = partial(_every_output, engine, frame)
        details[size] = partial(_reduce_and_fuse, DetailKeeper(engine.sizes), frame)
    spent: dict[Size, list[tuple[Spent, Spent]]] = {size: [] for size in SIZES}
    for _ in range(WARM_UP + RUNS):
        for size in SIZES:
            spent[size].append((spent_by(works[size]), spent_by(details[size])))
    return {size: _medians(spent[size][WARM_UP:]) for size in SIZES}


def _every_output(engine: Engine, frame: NDArray[np.uint8]) -> None:
    engine.run_trunk(frame)
    engine.decode(DRIVERS_TASK)
    for task in TASKS:
        engine.adapt(task)


def _reduce_and_fuse(keeper: DetailKeeper, frame: NDArray[np.uint8]) -> None:
    reduced = keeper.reduce(frame)
    keeper.fuse(reduced, np.full((*reduced.shape[:2], 1), 0.5, np.float32))


def _medians(spent: list[tuple[Spent, Spent]]) -> dict[str, float]:
    times = np.array(spent)  # (runs, all or reduce and fuse, clock and processor)
    (clock, processor), (detail, detail_cpu) = np.median(times, axis=0)
    return {
        "median_ms": round(float(clock), 1),
        "median_cpu_ms": round(float(processor), 1),
        "p99_ms": round(float(np.percentile(times[:, 0, 0], 99)), 1),
        "reduce_and_fuse_ms": round(float(detail), 1),
        "reduce_and_fuse_cpu_ms": round(float(detail_cpu), 1),
    }


def _through_node(options: argparse.Namespace, size: Size) -> dict[str, Any]:
    given = copy.copy(options)
    given.size = [str(side) for side in size]
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as group:
        row = measure_startup(group, given)
    kept = ("backend", "mode", "fps", "first_restored_s", "inference_median_ms")
    return {name: row[name] for name in (*kept, "resident_together_mb")}


def measure_several(group: Processes, options: argparse.Namespace) -> dict[str, Any]:
    """Measure 2, 4 and 6 cameras, each restored by a node of its own."""
    return {"cameras": [_several(options, count) for count in CAMERAS]}


def _several(options: argparse.Namespace, count: int) -> dict[str, Any]:
    names = [f"/camera{number}" for number in range(count)]
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as group:
        parameters = f"bundle:={options.bundle}", f"backend:={options.backend}"
        nodes = [group.start_node(name, f"{name}/image", *parameters) for name in names]
        # Features come of restored frames only, images of the camera's too while there is no other.
        features = [f"{name}/unirestore/{TASKS[0]}/features" for name in names]
        topics = [*features, *(f"{name}/unirestore/image" for name in names)]
        group.start_role(
            "listener", str(group.folder / "arrivals.npz"), *(f"{topic}:Image" for topic in topics)
        )
        for name in names:
            group.start_role("camera", f"{name}/image", *map(str, CAMERAS_SIZE), str(RATE_HZ))
        group.wait(SETTLE_S + options.seconds)
        memory = resident_together_mb([pid for node in nodes for pid in family(node.pid)])
        group.end()
        arrivals = read_arrivals(group.folder / "arrivals.npz")
    return {
        "cameras": count,
        "fps": [rate(arrivals[topic]) for topic in features],
        "resident_together_mb": round(memory, 1),
    }


def measure_change(group: Processes, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a change of size in mid-stream, for each size and each backend."""
    rows = []
    for size in CHANGES:
        with tempfile.TemporaryDirectory() as cache:  # empty for the cold one, filled by it
            rows += [_change(options, backend, size, cache) for backend in BACKENDS]
    return {"changes": rows}


def _change(
    options: argparse.Namespace, backend: str, size: tuple[str, str, str], cache: str
) -> dict[str, Any]:
    """Let the size change when frames have been restored for a while."""
    name = backend.split()[0]
    variables = {"XDG_CACHE_HOME": cache}
    with tempfile.TemporaryDirectory() as path, Processes(Path(path), **variables) as group:
        folder = group.folder
        node = group.start_node(NAMESPACE, CAMERA, f"bundle:={options.bundle}", f"backend:={name}")
        group.start_role("listener", str(folder / "arrivals.npz"), f"{IMAGE}:Image", f"{MAP}:Image")
        after = str(SETTLE_S + options.seconds)
        changing = str(folder / "changed.json"), after, *BEFORE, *size
        group.start_role("changing", CAMERA, *changing)
        group.wait(SETTLE_S + 2 * options.seconds)
        memory = resident_together_mb(family(node.pid))
        group.end()
        changed = json.loads((folder / "changed.json").read_text())["changed_ns"]
        arrivals = read_arrivals(folder / "arrivals.npz")
    return {
        "to": "x".join(size[:2]),
        "hz": float(size[2]),
        "backend": backend,
        "restored_before": int((arrivals[MAP][:, 0] < changed).sum()),
        "cameras_image_ms": _first_ms(arrivals[IMAGE], changed),
        "first_restored_ms": _first_ms(arrivals[MAP], changed),
        "resident_together_mb": round(memory, 1),
    }


def _first_ms(seen: NDArray[np.int64], changed_ns: int) -> float | None:
    """Compute when the first message arrived whose frame was taken after the change, in ms."""
    after = seen[seen[:, 0] >= changed_ns]
    return round(float(after[0, 1] - changed_ns) * 1e-6, 1) if len(after) else None


def measure_transport(group: Processes, options: argparse.Namespace) -> dict[str, Any]:
    """Count which of the largest images arrive under the Fast DDS profile."""
    kinds = [(camera, reliability) for camera in LARGEST for reliability in RELIABILITIES]
    return {"images": [_transport(options, *kind) for kind in kinds]}


def _transport(
    options: argparse.Namespace, camera: tuple[str, str, str, str], reliability: str
) -> dict[str, Any]:
    info = f"{NAMESPACE}/camera_info"
    with tempfile.TemporaryDirectory() as path, Processes(Path(path)) as group:
        listened = f"{CAMERA}:Image:{reliability}", f"{info}:CameraInfo"
        group.start_role("listener", str(group.folder / "arrivals.npz"), *listened)
        group.wait(SETTLE_S)
        group.start_role("camera", CAMERA, *camera, reliability)
        group.wait(options.seconds)
        group.end()
        arrivals = read_arrivals(group.folder / "arrivals.npz")
    # The last may be under way when all ends.
    sent = arrivals[info][:-1, 0]
    return {
        "size": "x".join(camera[:2]),
        "hz": float(camera[2]),
        "encoding": camera[3],
        "reliability": reliability,
        "sent": len(sent),
        "arrived": int(np.isin(sent, arrivals[CAMERA][:, 0]).sum()),
    }


MEASURES: Measures = {
    "transport": (measure_transport, "3840x2160", 10.0),
    "change": (measure_change, "480x360", 8.0),
    "sizes": (measure_sizes, "480x360", 15.0),
    "several": (measure_several, "640x480", 30.0),
}


def main(argv: list[str] | None = None) -> int:
    return run_measure(measure_parser(__doc__ or "", MEASURES).parse_args(argv), MEASURES)


if __name__ == "__main__":
    sys.exit(main())
