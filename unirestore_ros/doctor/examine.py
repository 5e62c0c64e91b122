"""`doctor`: what this machine has and lacks, a line for each thing with what to do about it.

Exit status: 0 when the node can run here, 1 when something that it needs is missing or broken.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from unirestore_ros.doctor import machine, opencv
from unirestore_ros.doctor.finding import ERROR, Finding
from unirestore_ros.doctor.ros import check_executables, check_graph, check_ros
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
    if arguments.json:
        fields = [dataclasses.asdict(finding) for finding in findings]
        text = json.dumps({"healthy": healthy, "findings": fields}, indent=2)
    else:
        verdict = "can run here" if healthy else "cannot run here: see the errors"
        rows = text_columns([finding.row for finding in findings])
        text = f"{rows}\n\nthe node {verdict}"
    sys.stdout.write(text + "\n")
    return 0 if healthy else 1


def examine(bundles: Sequence[str] = (), listen_s: float = LISTEN_S) -> list[Finding]:
    """Run every check, in the order in which a reader wants to fix things.

    ``listen_s``: how long to receive from cameras on the ROS graph; 0 leaves the graph out.
    """
    ros, images = check_ros(), opencv.check_opencv()
    findings = [
        machine.check_machine(),
        *ros,
        *check_executables(),
        machine.check_shared_memory(),
        machine.check_socket_buffers(),
        machine.check_gpu(),
        images,
        *opencv.check_cv_bridge(),
    ]
    if images.level == ERROR:
        return findings  # what runs the network cannot be imported without it
    findings += _examine_network(bundles)
    return findings + (check_graph(listen_s) if listen_s and ros[0].level != ERROR else [])


def _examine_network(bundles: Sequence[str]) -> list[Finding]:
    from unirestore_ros.doctor import network
    from unirestore_ros.engine.bundle import engine_folders

    return [
        network.check_tensorrt(),
        network.check_tensorrt_rtx(),
        network.check_onnxruntime(),
        network.check_openvino(),
        *network.check_weights(engine_folders()),
        *network.check_bundles(bundles),
    ]
