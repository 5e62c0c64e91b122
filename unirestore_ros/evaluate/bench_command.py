"""`bench`: how long a frame takes, by part, beside the published way of doing the same work."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import unirestore_ros
from unirestore_ros.engine import BundleError
from unirestore_ros.engine.bundle import find_bundle
from unirestore_ros.files import written_beside

if TYPE_CHECKING:
    from unirestore_ros.evaluate.timing import Row

WEIGHTS = Path(unirestore_ros.__file__).parents[1] / "engines" / "weights"
PUBLISHED = "sd-turbo"
PUBLISHED_SIZE = (512, 512)
RUNS = 30
FEW_RUNS = 3
"""Turns for the published size, which takes minutes a turn on a CPU."""


def main(argv: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = _parser().parse_args(argv)
    # Read when PyTorch is loaded. Its threads would go on spinning after its rows and take the
    # cores from what is measured next: 141 instead of 95 ms for `tiny`'s three outputs.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        _bench(arguments)
    except (BundleError, ValueError, OSError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bench", description=__doc__)
    parser.add_argument(
        "--model", default="tiny", help="sd-turbo, or a bundle's name or folder (default: tiny)"
    )
    parser.add_argument("--outputs", default="perception,segmentation,detection")
    parser.add_argument("--size", type=frame_size, metavar="WxH", help="of the frame")
    parser.add_argument("--runs", type=int, help=f"turns ({RUNS}; {FEW_RUNS} for sd-turbo)")
    parser.add_argument("--out", type=Path, required=True, help="the JSON to write")
    group = parser.add_argument_group("for sd-turbo")
    group.add_argument("--weights", type=Path, help="as `fetch` writes them")
    group.add_argument("--random-weights", action="store_true", help="where there are none")
    group.add_argument("--strides", default="8,4,2", help="(default: %(default)s)")
    group.add_argument("--precisions", default="fp32,bf16", help="(default: %(default)s)")
    return parser


def frame_size(text: str) -> tuple[int, int]:
    """640x480 -> (640, 480), for argparse."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"must be like 640x480, is {text!r}")
    return int(width), int(height)


def _bench(arguments: argparse.Namespace) -> None:
    outputs = tuple(arguments.outputs.split(","))
    if arguments.model == PUBLISHED:
        rows = _network(arguments, outputs)
    else:
        rows = _bundle(arguments, outputs)
    with written_beside(arguments.out) as beside:
        beside.write_text(json.dumps({"meta": _meta(arguments), "rows": rows}, indent=1) + "\n")
    for row in rows:
        sys.stdout.write(_line(row))


def _bundle(arguments: argparse.Namespace, outputs: tuple[str, ...]) -> list[Row]:
    from unirestore_ros.evaluate.engine_bench import measure_engine

    bundle = find_bundle(arguments.model)
    weights = arguments.weights or WEIGHTS / f"{bundle.name}.safetensors"
    return measure_engine(bundle, weights, outputs, arguments.runs or RUNS, arguments.size)


def _network(arguments: argparse.Namespace, outputs: tuple[str, ...]) -> list[Row]:
    from unirestore_ros.evaluate.network_bench import Plan, measure_network
    from unirestore_ros.model import SD_TURBO
    from unirestore_ros.model.weights import load_weights, random_network
    from unirestore_ros.synthetic.drive import demo_frames

    plan = Plan(
        size=arguments.size or PUBLISHED_SIZE,
        outputs=outputs,
        strides=tuple(int(stride) for stride in arguments.strides.split(",")),
        precisions=tuple(arguments.precisions.split(",")),
        runs=arguments.runs or FEW_RUNS,
    )
    if arguments.random_weights:
        network = random_network(dataclasses.replace(SD_TURBO, tasks=plan.tasks))
    else:
        network = load_weights(arguments.weights or WEIGHTS / f"{PUBLISHED}.safetensors")
    plan.check(network)
    frame = next(iter(demo_frames(5, plan.size))).degraded
    return measure_network(network, frame, plan)


def _line(row: Row) -> str:
    stride = "" if row["stride"] is None else f"stride {row['stride']}"
    errors = ", ".join(f"{k} {v} dB" for k, v in row.get("psnr_to_fp32_db", {}).items())
    return (
        f"{row['what']:<22}{row['precision']:<6}{stride:<10}{row['median_ms']:>10.1f} ms median"
        f"{row['p99_ms']:>10.1f} ms p99  {row['backend']}  {errors}".rstrip()
        + "\n"
    )


def _meta(arguments: argparse.Namespace) -> dict[str, object]:
    import onnxruntime
    import torch

    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        "version": unirestore_ros.__version__,
        "model": arguments.model,
        "random_weights": arguments.random_weights,
    }


def _processor() -> str:
    """Return the processor's name, where Linux gives it."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    names = (line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line)
    return next(names, platform.processor())
