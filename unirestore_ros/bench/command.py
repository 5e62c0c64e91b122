"""`bench`: how long a frame takes, by part, beside the published way of doing the same work."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

import unirestore_ros
from unirestore_ros.engine import BundleError
from unirestore_ros.engine.locate import find_bundle
from unirestore_ros.files import written_beside

WEIGHTS = Path(unirestore_ros.__file__).parents[1] / "engines" / "weights"


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        _bench(arguments)
    except (BundleError, ValueError, OSError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bench", description=__doc__)
    parser.add_argument("--model", default="tiny", help="a bundle's name or folder (tiny)")
    parser.add_argument("--outputs", default="perception,segmentation,detection")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--out", type=Path, required=True, help="the JSON to write")
    return parser


def _bench(arguments: argparse.Namespace) -> None:
    from unirestore_ros.bench.engine_bench import measure_engine

    bundle = find_bundle(arguments.model)
    outputs = tuple(arguments.outputs.split(","))
    rows = measure_engine(bundle, WEIGHTS / f"{bundle.name}.safetensors", outputs, arguments.runs)
    with written_beside(arguments.out) as beside:
        beside.write_text(json.dumps({"meta": _meta(), "rows": rows}, indent=1) + "\n")
    for row in rows:
        sys.stdout.write(f"{row['what']:<22}{row['median_ms']:>9.1f} ms median"
                         f"{row['p99_ms']:>9.1f} ms p99  {row['backend']}\n")  # fmt: skip


def _meta() -> dict[str, object]:
    import onnxruntime
    import torch

    return {
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        "version": unirestore_ros.__version__,
    }
