"""`evaluate`: measure every method under every corruption, over a folder of clean images.

Fidelity as PSNR and SSIM; machine tasks as mIoU, mAP50 and top-1 of networks that were trained on
clean images. --video measures how steady a restored video is; --camera, what a camera with frames
larger than the working size gets.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import unirestore_ros
from unirestore_ros.evaluate import camera_size
from unirestore_ros.evaluate.comparison import differences, prompt_changes, won_back
from unirestore_ros.evaluate.conditions import Conditions, chosen, degraded
from unirestore_ros.evaluate.methods import (
    NAMES,
    OURS,
    WEIGHTS,
    Sources,
    available,
    check,
    make_methods,
    own_network_files,
)
from unirestore_ros.evaluate.plots import plot_gains, plot_two_tasks
from unirestore_ros.evaluate.results import Results, tables
from unirestore_ros.evaluate.scoring import TaskEvaluator, rows_of, score_all
from unirestore_ros.evaluate.strips import Strips
from unirestore_ros.evaluate.video import measure, read_video
from unirestore_ros.files import sha256_of, written_beside
from unirestore_ros.model.baselines import BASELINES_FOLDER
from unirestore_ros.model.weights import SHIPPED_WEIGHTS, load_weights
from unirestore_ros.train.dataset import read_labelled
from unirestore_ros.train.prepare import read_photograph

DOWNSTREAM = SHIPPED_WEIGHTS / "downstream.safetensors"
PROMPT_FRAMES = 4
"""Images on which the prompts' effect is measured, each clean and degraded."""

_CORRUPTIONS_HELP = "common, validation, driving, mixtures, or NAME,..."


def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.out is None:
        parser.error("--out FILE.json is needed, with --data FOLDER or --video FILE")
    if (arguments.data is None) == (arguments.video is None):
        parser.error("one of --data FOLDER and --video FILE says what to do")
    try:
        if arguments.video is not None:
            _measure_video(arguments)
        elif arguments.camera is not None:
            _measure_camera(arguments)
        else:
            _evaluate(arguments)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"evaluate: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder: images/, and labels/ with boxes.json")
    parser.add_argument("--out", type=Path, help="the JSON to write; figures go to a folder beside")
    parser.add_argument("--corruptions", default="common", help=_CORRUPTIONS_HELP)
    parser.add_argument("--severity", type=int, default=3, choices=range(1, 6))
    parser.add_argument("--limit", type=int, help="at most so many images, evenly spread")
    parser.add_argument(
        "--methods",
        help=f"NAME,... (default: every one whose weights are there) of {', '.join(NAMES)}",
    )
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="the restorer's")
    parser.add_argument(
        "--baselines",
        type=Path,
        default=BASELINES_FOLDER,
        help="folder of the weights of the other methods",
    )
    parser.add_argument(
        "--downstream", type=Path, default=DOWNSTREAM, help="task networks trained on clean images"
    )
    parser.add_argument("--video", type=Path, help="measure a clean video's steadiness instead")
    parser.add_argument("--frames", type=int, default=24, help="of the video, from its beginning")
    parser.add_argument(
        "--camera",
        type=read_size,
        metavar="WxH",
        help="measure frames of that size, of the images side by side, instead",
    )
    return parser


def read_size(text: str) -> tuple[int, int]:
    """Read 1440x1080; argparse.ArgumentTypeError for anything else."""
    found = re.fullmatch(r"([1-9]\d{1,4})x([1-9]\d{1,4})", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: give it as 1440x1080")
    return int(found[1]), int(found[2])


def _measure_camera(arguments: argparse.Namespace) -> None:
    files = _images(arguments.data, arguments.limit)
    network = load_weights(arguments.weights)
    rows = camera_size.measure(network, files, arguments.camera, chosen(arguments.corruptions))
    data = "/".join(arguments.data.resolve().parts[-2:])
    meta = {"data": data, "images": len(files), "severity": 3, **_about(arguments)}
    _write(arguments.out, {"meta": meta, "camera": rows})
    sys.stdout.write(camera_size.table(rows))


def _evaluate(arguments: argparse.Namespace) -> None:
    corruptions = chosen(arguments.corruptions)
    sources = Sources(arguments.weights, arguments.baselines)
    names = tuple(arguments.methods.split(",")) if arguments.methods else available(sources)
    check(names, sources)
    files = _images(arguments.data, arguments.limit)
    notes = read_labelled(arguments.data) if (arguments.data / "boxes.json").exists() else {}
    networks = TaskEvaluator(arguments.downstream) if notes else None
    own_files = own_network_files(names, sources) if notes else {}
    own = {name: TaskEvaluator(file) for name, file in own_files.items()}
    methods = make_methods(names, sources)
    conditions = Conditions((None, *corruptions), arguments.severity)
    scores = score_all(files, methods, conditions, networks, notes, own)
    rows = rows_of(scores, conditions)
    content = {
        "meta": _meta(arguments, len(files), annotated=bool(notes)),
        "rows": rows,
        "differences": differences(scores),
        "won_back": won_back(scores),
        "prompts": _prompts(arguments, files, corruptions) if OURS in names else [],
    }
    _write(arguments.out, content)
    shown = tables(rows)
    _draw(
        arguments,
        content,
        Strips(files[len(files) // 2], methods, corruptions, arguments.severity),
        networks,
    )
    with written_beside(arguments.out.with_suffix("") / "tables.md") as beside:
        beside.write_text(shown)
    sys.stdout.write(shown)


def _write(file: Path, content: dict[str, Any]) -> None:
    with written_beside(file) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n")


def _draw(
    arguments: argparse.Namespace,
    content: dict[str, Any],
    strips: Strips,
    networks: TaskEvaluator | None,
) -> None:
    folder = arguments.out.with_suffix("")
    results = Results(content["rows"])
    plot_gains(results, folder / "psnr_gain.png")
    plot_two_tasks(results, folder / "two_tasks.png")
    strips.before_after(folder / "before_after.jpg")
    if networks is not None:
        strips.activations(networks.response, folder / "activations.jpg")


def _measure_video(arguments: argparse.Namespace) -> None:
    clean = read_video(arguments.video, arguments.frames)
    found = measure(load_weights(arguments.weights), clean)
    height, width = clean[0].shape[:2]
    meta = {**_about(arguments), "video": arguments.video.name, "frames": len(clean),
            "size": f"{width}x{height}"}  # fmt: skip
    _write(arguments.out, {"meta": meta, "video": found})
    for part, rows in found.items():
        sys.stdout.write("\n".join(f"{part}: {row}" for row in rows) + "\n")


def _prompts(
    arguments: argparse.Namespace, files: list[Path], corruptions: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Measure on a few images, each clean and with one of the corruptions in turn."""
    frames = []
    for i, file in enumerate(files[:: max(len(files) // PROMPT_FRAMES, 1)][:PROMPT_FRAMES]):
        clean = read_photograph(file).image
        name = corruptions[i * len(corruptions) // PROMPT_FRAMES]
        frames += [clean, degraded(clean, name, arguments.severity, file.name)]
    return prompt_changes(load_weights(arguments.weights), frames)


def _images(data: Path, limit: int | None) -> list[Path]:
    files = sorted(f for f in (data / "images").glob("*") if f.suffix in (".jpg", ".png"))
    if not files:
        raise ValueError(f"no .jpg or .png in {data / 'images'}")
    if limit is not None and limit < len(files):
        picks = np.linspace(0, len(files) - 1, limit).round().astype(int)
        files = [files[i] for i in picks]
    return files


def _meta(arguments: argparse.Namespace, images: int, annotated: bool) -> dict[str, object]:
    return {
        "data": "/".join(arguments.data.resolve().parts[-2:]),
        "images": images,
        "corruptions": arguments.corruptions,
        "methods": arguments.methods,
        "severity": arguments.severity,
        "limit": arguments.limit,
        "downstream_sha256": sha256_of(arguments.downstream) if annotated else None,
        **_about(arguments),
    }


def _about(arguments: argparse.Namespace) -> dict[str, object]:
    return {
        "weights_sha256": sha256_of(arguments.weights),
        "version": unirestore_ros.__version__,
        "torch": torch.__version__.split("+")[0],
        "machine": platform.machine(),
    }
