"""Measures of the display as it runs: camera, node, display and viewers, each a process.

    python -m unirestore_ros.evaluate.display_bench page --out page.json
    python -m unirestore_ros.evaluate.display_bench compose --out compose.json
    python -m unirestore_ros.evaluate.display_bench startup --out startup.json

page: three viewers of the page, one of which takes up a frame a second: rates, ages, memory.
compose: the composed picture at 1280x720, to one listener: the display's own share, age on arrival.
startup: node and display started together, with the camera running: until the first picture.

For page and compose the node passes camera frames on (camera mode), so that its speed is no limit;
`--restore` has it restore.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from typing import Any

import numpy as np

from unirestore_ros.evaluate.dds_measures import (
    CAMERA,
    NAMESPACE,
    NODE_NAME,
    RATE_HZ,
    SETTLE_S,
    Measures,
    Processes,
    latency,
    measure_parser,
    percentiles,
    rate,
    run_measure,
    sample_memory,
)
from unirestore_ros.evaluate.display_viewer import read_viewers
from unirestore_ros.evaluate.node_roles import read_arrivals, read_diagnostics
from unirestore_ros.recordings.processes import Child

DISPLAY = f"{NAMESPACE}/driver_display"
VIEWER = "unirestore_ros.evaluate.display_viewer"
# Seconds for which each viewer takes up a frame: two are free, the third is slow.
PAUSES = ("0", "0", "1")


def measure_page(group: Processes, options: argparse.Namespace) -> dict[str, Any]:
    """Compare memory between 1/5 of the time and its end: minutes 1 and 5 of five. ``own`` is
    the process's; ``resident`` holds too what of others' shared memory it has read."""
    display = _start(group, options)
    group.start_role("diagnostics", str(group.folder / "diagnostics.json"), DISPLAY)
    group.start_module(VIEWER, _url(options), str(group.folder / "viewers.npz"), *PAUSES)
    group.start_role("camera", CAMERA, *options.size, str(RATE_HZ))
    memory = sample_memory(group, display.pid, options.seconds)
    group.end()
    viewers = read_viewers(group.folder / "viewers.npz")
    reports = read_diagnostics(group.folder / "diagnostics.json")[int(SETTLE_S) :]
    return {
        "seconds": options.seconds,
        "size": "x".join(options.size),
        "display_fps": float(np.median([float(values["rate_hz"]) for values in reports])),
        "viewers_fps": [rate(seen) for seen in viewers],
        "viewers_age_ms": [percentiles(latency(seen)) for seen in viewers],
        "share_ms": _diagnostics_median(reports, "share"),
        **memory,
    }


def measure_compose(group: Processes, options: argparse.Namespace) -> dict[str, Any]:
    _start(group, options, "page:=false", "view:=split")
    group.start_role("diagnostics", str(group.folder / "diagnostics.json"), DISPLAY)
    topics = f"{DISPLAY}/image:Image"
    group.start_role("listener", str(group.folder / "arrivals.npz"), topics)
    group.start_role("camera", CAMERA, *options.size, str(RATE_HZ))
    group.wait(options.seconds)
    group.end()
    arrivals = read_arrivals(group.folder / "arrivals.npz")[f"{DISPLAY}/image"]
    reports = read_diagnostics(group.folder / "diagnostics.json")[int(SETTLE_S) :]
    return {
        "seconds": options.seconds,
        "size": "x".join(options.size),
        "fps": rate(arrivals),
        "compose_ms": _diagnostics_median(reports, "compose"),
        "share_ms": _diagnostics_median(reports, "share"),
        "age_at_arrival_ms": percentiles(latency(arrivals)),
    }


def measure_startup(group: Processes, options: argparse.Namespace) -> dict[str, Any]:
    group.start_role("camera", CAMERA, *options.size, str(RATE_HZ))
    group.wait(SETTLE_S)
    group.start_module(VIEWER, _url(options), str(group.folder / "viewers.npz"), "0")
    group.wait(SETTLE_S)
    started = time.time_ns()
    options.restore = True
    _start(group, options)
    group.wait(options.seconds)
    group.end()
    (seen,) = read_viewers(group.folder / "viewers.npz")
    restored = seen[seen[:, 2] == 1]
    return {
        "seconds": options.seconds,
        "first_picture_s": round((seen[0, 1] - started) * 1e-9, 2),
        "first_restored_s": round((restored[0, 1] - started) * 1e-9, 2) if len(restored) else None,
        "age_ms": percentiles(latency(seen)),
    }


def _start(group: Processes, options: argparse.Namespace, *more: str) -> Child:
    """Start node and display; returns the display."""
    enabled = f"enabled:={str(options.restore).lower()}"
    group.start_node(NAMESPACE, CAMERA, f"bundle:={options.bundle}", enabled)
    parameters = (f"restorer:={NODE_NAME}", f"page_port:={options.port}", *more)
    return group.start_node(NAMESPACE, CAMERA, *parameters, command="driver_display")


def _url(options: argparse.Namespace) -> str:
    return f"http://127.0.0.1:{options.port}/"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _diagnostics_median(reports: list[dict[str, str]], name: str) -> dict[str, float]:
    """Take the median over the diagnostics of a figure that they give as median and p99."""
    keys = {kind: f"{name}_{kind}_ms" for kind in ("median", "p99")}
    return {
        kind: float(np.median([float(values[key]) for values in reports if values[key]]))
        for kind, key in keys.items()
    }


MEASURES: Measures = {
    "page": (measure_page, "1280x720", 300.0),
    "compose": (measure_compose, "1280x720", 40.0),
    "startup": (measure_startup, "480x360", 20.0),
}


def main(argv: list[str] | None = None) -> int:
    parser = measure_parser(__doc__ or "", MEASURES)
    parser.add_argument("--restore", action="store_true", help="the node restores")
    options = parser.parse_args(argv)
    options.port = _free_port()
    return run_measure(options, MEASURES)


if __name__ == "__main__":
    sys.exit(main())
