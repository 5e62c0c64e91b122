"""Measure on frames the parts' largest activations, and how far half precision is from whole.

The ranges are those of every tensor that is in half precision in a part's bf16 variant, which has
the range of float32, on frames of a folder or of the synthetic drive.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from unirestore_ros.engine.detail import pad_to_multiple
from unirestore_ros.engine.manifest import PARTS
from unirestore_ros.engine.working_size import Size
from unirestore_ros.evaluate.metrics import float_psnr
from unirestore_ros.export.parts import Part
from unirestore_ros.export.recipe import RecipeError
from unirestore_ros.synthetic.drive import demo_frames

FRAMES = 5
"""One of each degradation of the synthetic drive."""
FP16_LIMIT = 8000.0
"""Largest activation with which a part may be in fp16: an eighth of what overflows it."""
LEAST_DECIBELS = 45.0
"""PSNR that a part in half precision must keep to fp32."""
PREFERENCES = {
    "fp32": ("fp32",),
    "fp16": ("fp16", "bf16", "fp32"),
    "bf16": ("bf16", "fp16", "fp32"),
}
"""What a recipe's precision stands for: the first of these that a part's measurements allow."""

_log = logging.getLogger(__name__)
Frame = NDArray[np.uint8]
Parts = Mapping[str, Part]
Tensors = dict[str, Tensor]
MakePart = Callable[[str, str], Part]
"""(part, precision) -> the module."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """By part; None where it was not measured."""

    precision: dict[str, str]
    largest: dict[str, float | None]
    decibels: dict[str, float | None]


def frames_for(size: Size, multiple: int, folder: Path | None) -> list[Frame]:
    """Return RGB frames (H, W, 3) of a working size (width, height), padded to ``multiple``: images
    of a folder, evenly spread over it, or degraded frames of the synthetic drive."""
    if folder is None:
        frames = [frame.degraded for frame in demo_frames(FRAMES, size)]
        return [pad_to_multiple(frame, multiple) for frame in frames]
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg"))
    if not files:
        raise RecipeError(f"{folder}: there is no .png or .jpg in it to measure on")
    chosen = files[:: max(len(files) // FRAMES, 1)][:FRAMES]
    return [pad_to_multiple(_read(file, size), multiple) for file in chosen]


def _read(file: Path, size: Size) -> Frame:
    image = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if image is None:
        raise RecipeError(f"{file}: it is not an image")
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(resized[..., ::-1])


def run(part: Part, given: Mapping[str, Tensor]) -> Tensors:
    """Run a part; returns its outputs by name."""
    results = part(*(given[name] for name in part.inputs))
    if isinstance(results, Tensor):
        results = (results,)
    return dict(zip(part.outputs, results, strict=True))


class _Extremes(TorchDispatchMode):
    """Keeps the largest absolute value of any bf16 tensor that is computed under it."""

    largest = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dtype == torch.bfloat16 and result.numel():
            self.largest = max(self.largest, float(result.abs().max()))
        return result


@dataclasses.dataclass(frozen=True)
class _Case:
    """A frame, and what the parts in fp32 make of it."""

    trunk: Tensors
    image: Tensor
    features: Sequence[Tensor]
    prompts: Sequence[Tensor]

    @classmethod
    def of(cls, parts: Parts, prompts: Sequence[Tensor], frame: Frame) -> _Case:
        given = {"frame": torch.from_numpy(frame)[None]}
        given.update(run(parts["trunk"], given))
        image = run(parts["decoder"], {**given, "prompt": prompts[0]})["image"]
        return cls(given, image, _features(parts["adapter"], given, prompts), prompts)

    def distance(self, part: str, candidate: Part, whole: Parts) -> float:
        """Measure the least PSNR to fp32, in dB, of the outputs that ``part`` contributes to."""
        parts = {**whole, part: candidate}
        given = self.trunk
        if part == "trunk":
            given = {**given, **run(candidate, given)}
        found = []
        if part != "adapter":
            image = run(parts["decoder"], {**given, "prompt": self.prompts[0]})["image"]
            found.append(_psnr(image, self.image, 255))
        if part != "decoder":
            ours = _features(parts["adapter"], given, self.prompts)
            for feature, reference in zip(ours, self.features, strict=True):
                found.append(_psnr(feature, reference, float(reference.max() - reference.min())))
        return min(found)

    def largest(self, part: str, module: Part) -> float:
        with _Extremes() as watch:
            if part == "adapter":
                _features(module, self.trunk, self.prompts)
            else:
                run(module, {**self.trunk, "prompt": self.prompts[0]})
        return watch.largest


def _psnr(ours: Tensor, reference: Tensor, span: float) -> float:
    return float_psnr(ours.double().numpy(), reference.double().numpy(), span)


def _features(
    adapter: Part, given: Mapping[str, Tensor], prompts: Sequence[Tensor]
) -> list[Tensor]:
    return [run(adapter, {**given, "prompt": prompt})["features"] for prompt in prompts]


@torch.inference_mode()
def choose_precision(
    wanted: str, make: MakePart, prompts: Sequence[Tensor], frames: Sequence[Frame]
) -> Measured:
    """Choose the precision of each part: the first of what ``wanted`` stands for that its range and
    its distance from fp32 allow. prompts: (1, T, C), the first of them for the image."""
    whole = {part: make(part, "fp32") for part in PARTS}
    cases = [_Case.of(whole, prompts, frame) for frame in frames]
    measured = Measured(dict.fromkeys(PARTS, "fp32"), dict.fromkeys(PARTS), dict.fromkeys(PARTS))
    for part in PARTS:
        in_bf16 = make(part, "bf16")
        largest = max(case.largest(part, in_bf16) for case in cases)
        measured.largest[part] = largest
        for name in PREFERENCES[wanted]:
            if name == "fp32":
                break
            if name == "fp16" and largest >= FP16_LIMIT:
                _log.info("%s: activations reach %.0f: not in fp16", part, largest)
                continue
            candidate = make(part, name)
            reached = min(case.distance(part, candidate, whole) for case in cases)
            _log.info("%s in %s: %.1f dB to fp32", part, name, reached)
            if reached >= LEAST_DECIBELS:
                measured.precision[part], measured.decibels[part] = name, reached
                break
    return measured
