"""What convolutions in 8 bits would lose in PSNR and save in engine bytes; no bundle has them.

`python -m unirestore_ros.evaluate.quantisation --data ../shared/data/camvid --out out/8bit.json`
(`--model sd-turbo` has random weights, which tell little: PSNR at 128x128; takes 12 GB of memory.)

Every convolution that is in half precision in a bf16 bundle gets inputs and weights in INT8 or FP8
(`rounding`). The scale of an input is what rounds a sample of its values on the calibration frames
with the least mean square error. PSNR is measured in PyTorch, in float32 but for the rounding;
bytes with TensorRT for RTX, on the graphs in bf16 with QuantizeLinear nodes written in.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from unirestore_ros.engine.detail import pad_to_multiple
from unirestore_ros.engine.manifest import MAX_CHANNELS, PARTS
from unirestore_ros.evaluate.conditions import degraded
from unirestore_ros.evaluate.metrics import float_psnr, psnr
from unirestore_ros.evaluate.rounding import (
    LARGEST,
    Scales,
    fitting_scale,
    rounded,
    weight_scales,
    write_rounded,
)
from unirestore_ros.export.export import exported, save_onnx
from unirestore_ros.export.layer_list import compiled_list, read_layer_list
from unirestore_ros.export.measure import run
from unirestore_ros.export.parts import Part
from unirestore_ros.export.plan import Plan
from unirestore_ros.export.recipe import read_recipe
from unirestore_ros.files import written_beside
from unirestore_ros.model import SD_TURBO
from unirestore_ros.model.weights import load_weights, random_network
from unirestore_ros.tables import markdown_table
from unirestore_ros.train.prepare import read_photograph, spread

CORRUPTIONS = ("fog", "gaussian_noise", "motion_blur", "driving/rain", "driving/low_light")
SEVERITY = 3
SAMPLE = 4096
"""Values of an input that a calibration frame adds."""
CARDS = {"int8": "8.6", "fp8": "8.9"}
"""The first compute capability that takes a format."""
CHOICES = (("trunk",), ("decoder",), ("trunk", "decoder"))
Image = NDArray[np.uint8]
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """A frame (1, H, W, 3) uint8 and its clean original (h, w, 3), which padding made larger."""

    frame: Tensor
    clean: Image

    def psnr_of(self, image: Image) -> float:
        height, width = self.clean.shape[:2]
        return psnr(np.ascontiguousarray(image[:height, :width]), self.clean)


class Subject:
    """A network's parts in float32, and which of its convolutions may be in 8 bits."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._parts = {name: plan.part(name, "fp32") for name in PARTS}
        allowed = _names_in_half(plan.part("trunk", "bf16"))
        self.convolutions = {n: m for n, m in _convolutions(self._parts["trunk"]) if n in allowed}
        self._running = ""

    @torch.inference_mode()
    def outputs(self, frame: Tensor) -> tuple[Image, NDArray[np.float32]]:
        """Return the image (H, W, 3) of the first task and the features of the last."""
        prompts = [prompt[None] for prompt in self.plan.prompts.values()]
        given = {"frame": frame, **self._run("trunk", {"frame": frame})}
        image = self._run("decoder", {**given, "prompt": prompts[0]})["image"]
        features = self._run("adapter", {**given, "prompt": prompts[-1]})["features"]
        return image[0].numpy(), features.numpy()

    def _run(self, name: str, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self._running = name
        return run(self._parts[name], given)

    def calibrated(self, frames: Sequence[Tensor]) -> dict[str, dict[str, Scales]]:
        """Run frames; the scales of the convolutions by format, part and name.

        What the adapter runs is the decoder's.
        """
        samples: dict[tuple[str, str], list[Tensor]] = {}

        def observe(name: str, values: Tensor) -> Tensor:
            part = "trunk" if self._running == "trunk" else "decoder"
            flat = values.flatten()
            picks = flat[torch.linspace(0, flat.numel() - 1, SAMPLE).long()]
            samples.setdefault((part, name), []).append(torch.cat([picks, flat.abs().amax()[None]]))
            return values

        with self._inputs_through(observe):
            for frame in tqdm(frames, desc="calibrating"):
                self.outputs(frame)
        scales: dict[str, dict[str, Scales]] = {}
        for kind in LARGEST:
            fitted = {key: fitting_scale(torch.cat(v), kind) for key, v in samples.items()}
            scales[kind] = {
                part: {name: scale for (where, name), scale in fitted.items() if where == part}
                for part in ("trunk", "decoder")
            }
        return scales

    @contextlib.contextmanager
    def rounded_to(self, kind: str, scales: Scales) -> Iterator[None]:
        """Have convolutions compute on inputs and weights of a format."""
        kept = {name: self.convolutions[name].weight.data for name in scales}
        for name, weight in kept.items():
            self.convolutions[name].weight.data = rounded(weight, weight_scales(weight, kind), kind)
        try:
            with self._inputs_through(
                lambda name, x: rounded(x, scales[name], kind) if name in scales else x
            ):
                yield
        finally:
            for name, weight in kept.items():
                self.convolutions[name].weight.data = weight

    @contextlib.contextmanager
    def _inputs_through(self, function: Callable[[str, Tensor], Tensor]) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for name, module in self.convolutions.items():

                def hook(module: nn.Module, given: Any, name: str = name) -> Tensor:
                    return function(name, given[0])

                stack.callback(module.register_forward_pre_hook(hook).remove)
            yield


def _convolutions(part: Part) -> Iterator[tuple[str, nn.Conv2d]]:
    network: Any = part.network
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1:
            yield name.replace(".module", ""), module


def _names_in_half(part: Part) -> set[str]:
    """Name the convolutions that a part in bf16 does not keep in float32."""
    return {name for name, conv in _convolutions(part) if conv.weight.dtype == torch.bfloat16}


def compared(subject: Subject, cases: Sequence[Case], scales: Mapping[str, Any]) -> list[Row]:
    """Return a row for each format and choice of parts: what PSNR to the clean image loses, and
    the least PSNR to what the network makes in float32."""
    whole = [subject.outputs(case.frame) for case in tqdm(cases, desc="float32")]
    rows = []
    for kind in LARGEST:
        for parts in CHOICES:
            chosen = {n: s for part in parts for n, s in scales[kind][part].items()}
            with subject.rounded_to(kind, chosen):
                ours = [subject.outputs(case.frame) for case in tqdm(cases, desc=kind)]
            rows.append(
                {"format": kind, "parts": "+".join(parts), **_distances(cases, whole, ours)}
            )
    return rows


def _distances(cases: Sequence[Case], whole: Sequence[Any], ours: Sequence[Any]) -> Row:
    lost, image_db, features_db = [], [], []
    for case, (image, features), (image8, features8) in zip(cases, whole, ours, strict=True):
        lost.append(case.psnr_of(image) - case.psnr_of(image8))
        image_db.append(psnr(image8, image))
        features_db.append(float_psnr(features8, features, float(np.ptp(features))))
    return {
        "image_loses_db": round(float(np.mean(lost)), 3),
        "worst_db": round(max(lost), 3),
        "image_db_to_fp32": round(min(image_db), 1),
        "features_db_to_fp32": round(min(features_db), 1),
    }


def compiled(subject: Subject, scales: Mapping[str, Any], folder: Path) -> Iterator[Row]:
    """Export each part in bf16 and compile it as it is and with each format written in, for the
    working size of the recipe's file."""
    plan = subject.plan
    multiple = plan.config.multiple
    size = read_recipe(plan.recipe.file).working_size
    width, height = (-(-side // multiple) * multiple for side in size)
    sample = plan.sample(plan.part("trunk", "bf16"))
    for name in PARTS:
        part = plan.part(name, "bf16")
        program = exported(part, sample, multiple)
        save_onnx({name: program}, folder / name, {name: part})
        plain = folder / name / f"{name}.onnx"
        for kind, gpu in CARDS.items():
            graph = folder / name / f"{kind}.onnx"
            chosen = scales[kind]["trunk" if name == "trunk" else "decoder"]
            count = write_rounded(plain, graph, chosen, kind)
            for form, file in (("bf16", plain), (kind, graph)):
                engine, lines = compiled_list(file, (width, height), gpu)
                found = read_layer_list(lines)
                yield {
                    "part": name,
                    "format": form,
                    "gpu": gpu,
                    "convolutions": count if form == kind else 0,
                    "engine_mb": round(engine.engine.nbytes / 1e6, 1),
                    "kernels": found.kernels,
                    "moved_mb": round(found.moved.total() / 1e6, 1),
                }
                del engine


def cases_of(files: Sequence[Path], plan: Plan, corruptions: Sequence[str]) -> list[Case]:
    """Degrade each image in every way; (h, w) are those of the recipe's working size."""
    cases = []
    for file in files:
        image = cv2.resize(read_photograph(file).image, plan.recipe.working_size)
        clean = np.ascontiguousarray(image).astype(np.uint8)
        for name in corruptions:
            frame = degraded(clean, name, SEVERITY, file.name)
            padded = pad_to_multiple(frame, plan.config.multiple)
            cases.append(Case(torch.from_numpy(padded)[None], clean))
    return cases


def plan_of(model: str) -> Plan:
    """Plan `tiny` as shipped, or `sd-turbo` with random weights for small frames."""
    recipe = read_recipe(Path(f"engines/{model}.yaml"))
    if model == "tiny":
        return Plan(load_weights(recipe.weights), recipe)
    plan = Plan(random_network(SD_TURBO), dataclasses.replace(recipe, working_size=(128, 128)))
    plan.projection = nn.Conv2d(plan.channels, MAX_CHANNELS, 1).requires_grad_(False)
    return plan


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("quantisation", description=__doc__)
    parser.add_argument("--model", choices=("tiny", "sd-turbo"), default="tiny")
    parser.add_argument("--data", type=Path, required=True, help="has train/images and val/images")
    parser.add_argument("--calibrate", type=int, default=12, help="images of train")
    parser.add_argument("--limit", type=int, default=8, help="images of val")
    parser.add_argument("--corruptions", default=",".join(CORRUPTIONS), help="of every image")
    parser.add_argument("--uncompiled", action="store_true", help="measure PSNR only")
    parser.add_argument("--out", type=Path, required=True, help="JSON")
    arguments = parser.parse_args(argv)
    subject = Subject(plan_of(arguments.model))
    counts = {"train": arguments.calibrate, "val": arguments.limit}
    corruptions = arguments.corruptions.split(",")
    cases = {}
    for split, count in counts.items():
        files = spread(sorted((arguments.data / split / "images").iterdir()), count)
        cases[split] = cases_of(files, subject.plan, corruptions)
    scales = subject.calibrated([case.frame for case in cases["train"]])
    report: dict[str, Any] = {
        "model": arguments.model,
        "images": counts,
        "corruptions": corruptions,
    }
    report["psnr"] = compared(subject, cases["val"], scales)
    if not arguments.uncompiled:
        with tempfile.TemporaryDirectory(prefix="unirestore_8bit_") as folder:
            report["engines"] = list(compiled(subject, scales, Path(folder)))
    with written_beside(arguments.out) as beside:
        beside.write_text(json.dumps(report, indent=1) + "\n")
    for name in ("psnr", "engines"):
        rows = report.get(name, [])
        if rows:
            sys.stdout.write(markdown_table(list(rows[0]), [list(r.values()) for r in rows]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
