"""`evaluate`: PSNR and SSIM of each method, for each corruption, over a folder of clean images."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

import unirestore_ros
from unirestore_ros.degrade.corruptions import COMMON, VALIDATION, corrupt
from unirestore_ros.evaluate.methods import CLEAN, NAMES, PROMPTS, Image, Method, make_methods
from unirestore_ros.evaluate.table import Row, make_row, markdown
from unirestore_ros.files import sha256_of, written_beside
from unirestore_ros.metrics import psnr
from unirestore_ros.model.weights import SHIPPED_WEIGHTS

WEIGHTS = SHIPPED_WEIGHTS / "tiny.safetensors"
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
    parser.add_argument("--data", type=Path, required=True, help="folder with images/")
    parser.add_argument("--out", type=Path, required=True, help="the JSON to write")
    parser.add_argument("--corruptions", default="common", help="common, validation, or NAME,...")
    parser.add_argument("--severity", type=int, default=3, choices=range(1, 6))
    parser.add_argument("--limit", type=int, help="at most so many images, evenly spread")
    parser.add_argument("--methods", default=",".join(NAMES), help=",".join(NAMES))
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    return parser


def _evaluate(arguments: argparse.Namespace) -> None:
    corruptions = _chosen_corruptions(arguments.corruptions)
    names = tuple(arguments.methods.split(","))
    for name in names:
        if name not in NAMES:
            raise ValueError(f"method {name!r} is not known: choose from {', '.join(NAMES)}")
    files = _images(arguments.data, arguments.limit)
    methods = make_methods(names, arguments.weights)
    rows = list(_rows(files, methods, corruptions, arguments.severity))
    content = {"meta": _meta(arguments), "rows": rows}
    with written_beside(arguments.out) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n")
    sys.stdout.write(markdown(rows))


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


def _rows(
    files: list[Path], methods: Mapping[str, Method], corruptions: tuple[str, ...], severity: int
) -> Iterator[Row]:
    """On clean input every method but ``degraded``; on each corruption every one but ``clean``."""
    conditions: list[str | None] = [None, *corruptions]
    bar = tqdm(total=len(conditions) * len(files), unit="image")
    for corruption in conditions:
        left_out = "degraded" if corruption is None else CLEAN
        used = {name: method for name, method in methods.items() if name != left_out}
        scores: dict[str, list[dict[str, float]]] = {name: [] for name in used}
        for file in files:
            clean = _read(file)
            frame = clean
            if corruption is not None:
                frame = corrupt(clean, corruption, severity, file.name)
            for name, method in used.items():
                scores[name].append(_score(method(frame), clean))
            bar.update()
        for name, listed in scores.items():
            level = None if corruption is None else severity
            yield make_row(name, PROMPTS.get(name), corruption, level, listed)
    bar.close()


def _read(file: Path) -> Image:
    image = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{file} is not an image that OpenCV reads")
    return np.ascontiguousarray(image[..., ::-1]).astype(np.uint8)


def _score(image: Image, clean: Image) -> dict[str, float]:
    from skimage.metrics import structural_similarity

    similarity = structural_similarity(image, clean, channel_axis=2, data_range=255)
    return {"psnr": psnr(image, clean), "ssim": float(similarity)}


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
