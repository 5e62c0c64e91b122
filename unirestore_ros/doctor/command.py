"""`doctor`: what this machine has and lacks, a line for each thing with what to do about it.

Exit status: 0 when the node can run here, 1 when something that it needs is missing or broken.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from unirestore_ros.doctor.cameras import check_graph
from unirestore_ros.doctor.engines import (
    check_bundles,
    check_onnxruntime,
    check_opencv,
    check_openvino,
    check_tensorrt,
    check_weights,
)
from unirestore_ros.doctor.finding import ERROR, Finding
from unirestore_ros.doctor.machine import (
    check_gpu,
    check_machine,
    check_shared_memory,
    check_socket_buffers,
)
from unirestore_ros.doctor.ros import check_ros
from unirestore_ros.engine.bundle import engine_folders
from unirestore_ros.tables import text_columns

LISTEN_S = 3.0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="unirestore_ros doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.add_argument(
        "--listen",
        type=float,
        default=LISTEN_S,
        metavar="SECONDS",
        help="how long to count cameras' frames; 0: leave the ROS graph out (%(default)s)",
    )
    parser.add_argument(
        "bundles", nargs="*", metavar="BUNDLE", help="folders to load besides those installed"
    )
    arguments = parser.parse_args(argv)
    findings = examine(arguments.bundles, arguments.listen)
    healthy = all(finding.level != ERROR for finding in findings)
    write = _as_json if arguments.json else _as_lines
    sys.stdout.write(write(findings, healthy) + "\n")
    return 0 if healthy else 1


def examine(bundles: Sequence[str] = (), listen_s: float = LISTEN_S) -> list[Finding]:
    """Every check, in the order in which a reader wants to mend things. ``listen_s``: to cameras on
    the ROS graph; 0 leaves the graph out."""
    loaded, sizes = check_bundles(bundles)
    ros = check_ros()
    graph = check_graph(listen_s, sizes) if listen_s and ros[0].level != ERROR else []
    return [
        check_machine(),
        *ros,
        check_shared_memory(),
        check_socket_buffers(),
        check_gpu(),
        check_tensorrt(),
        check_onnxruntime(),
        check_openvino(),
        check_opencv(),
        *check_weights(engine_folders()),
        *loaded,
        *graph,
    ]


def _as_json(findings: Sequence[Finding], healthy: bool) -> str:
    rows = [dataclasses.asdict(finding) for finding in findings]
    return json.dumps({"healthy": healthy, "findings": rows}, indent=2)


def _as_lines(findings: Sequence[Finding], healthy: bool) -> str:
    verdict = "the node can run here" if healthy else "the node cannot run here: see the errors"
    return f"{text_columns([finding.row for finding in findings])}\n\n{verdict}"
