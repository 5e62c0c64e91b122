"""`evaluate`: what each method makes of each corruption, for the eye (PSNR, SSIM) and for machines
(mIoU, mAP50, top-1 of networks trained on clean images), over a folder of clean images."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path

import numpy as np
import torch

import unirestore_ros
from unirestore_ros.degrade.corruptions import COMMON, VALIDATION
from unirestore_ros.evaluate.machine import Machine
from unirestore_ros.evaluate.methods import NAMES, make_methods
from unirestore_ros.evaluate.run import Conditions, differences, rows_of, score_all
from unirestore_ros.evaluate.table import tables
from unirestore_ros.files import sha256_of, written_beside
from unirestore_ros.model.weights import SHIPPED_WEIGHTS
from unirestore_ros.train.labelled import read_camvid

WEIGHTS = SHIPPED_WEIGHTS / "tiny.safetensors"
DOWNSTREAM = SHIPPED_WEIGHTS / "downstream.safetensors"
GROUPS = {"common": COMMON, "validation": VALIDATION}


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        _evaluate(arguments)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"evaluate: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("evaluate", description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder: images/, and labels/ with boxes.json"
    )
    parser.add_argument("--out", type=Path, required=True, help="the JSON to write")
    parser.add_argument("--corruptions", default="common", help="common, validation, or NAME,...")
    parser.add_argument("--severity", type=int, default=3, choices=range(1, 6))
    parser.add_argument("--limit", type=int, help="at most so many images, evenly spread")
    parser.add_argument("--methods", default=",".join(NAMES), help=",".join(NAMES))
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="the restorer's")
    parser.add_argument(
        "--downstream", type=Path, default=DOWNSTREAM, help="networks that judge for machines"
    )
    return parser


def _evaluate(arguments: argparse.Namespace) -> None:
    corruptions = _chosen_corruptions(arguments.corruptions)
    names = tuple(arguments.methods.split(","))
    for name in names:
        if name not in NAMES:
            raise ValueError(f"method {name!r} is not known: choose from {', '.join(NAMES)}")
    files = _images(arguments.data, arguments.limit)
    notes = read_camvid(arguments.data) if (arguments.data / "boxes.json").exists() else {}
    machine = Machine(arguments.downstream) if notes else None
    methods = make_methods(names, arguments.weights)
    conditions = Conditions((None, *corruptions), arguments.severity)
    scores = score_all(files, methods, conditions, machine, notes)
    rows = rows_of(scores, conditions)
    content = {"meta": _meta(arguments), "rows": rows, "differences": differences(scores)}
    with written_beside(arguments.out) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n")
    sys.stdout.write(tables(rows))


def _chosen_corruptions(text: str) -> tuple[str, ...]:
    chosen: list[str] = []
    for name in text.split(","):
        group = GROUPS.get(name, (name,))
        unknown = [n for n in group if n not in COMMON + VALIDATION]
        if unknown:
            raise ValueError(f"corruption {unknown[0]!r} is not known: {', '.join(COMMON)}, "
                             f"{', '.join(VALIDATION)}, or common, validation")  # fmt: skip
        chosen += [n for n in group if n not in chosen]
    return tuple(chosen)


def _images(data: Path, limit: int | None) -> list[Path]:
    files = sorted(f for f in (data / "images").glob("*") if f.suffix in (".jpg", ".png"))
    if not files:
        raise ValueError(f"no .jpg or .png in {data / 'images'}")
    if limit is not None and limit < len(files):
        picks = np.linspace(0, len(files) - 1, limit).round().astype(int)
        files = [files[i] for i in picks]
    return files


def _meta(arguments: argparse.Namespace) -> dict[str, object]:
    return {
        "data": str(arguments.data),
        "severity": arguments.severity,
        "limit": arguments.limit,
        "weights_sha256": sha256_of(arguments.weights),
        "version": unirestore_ros.__version__,
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
