"""Feature heads as graphs of a bundle: ``heads/TASK.onnx``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from unirestore_ros.engine.manifest import HeadInfo
from unirestore_ros.export.export import exported_parts, save_onnx
from unirestore_ros.export.parts import Part, Spatial
from unirestore_ros.export.recipe import Recipe, RecipeError
from unirestore_ros.model.heads import (
    DetectionNetwork,
    Head,
    HeadOrigin,
    SegmentationNetwork,
    load_head,
)

_SAMPLE = (24, 32)
"""Height and width of the map that the heads are exported with; they take any."""


class SegmentationGraph(Part):
    """Features (1, h, w, c) -> logits (1, h, w, K) of the classes."""

    inputs, outputs = ("features",), ("logits",)
    spatial: Mapping[str, Spatial] = {"features": Spatial(1, 1), "logits": Spatial(1, 1)}

    def __init__(self, network: SegmentationNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        return self.network.logits(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()


class DetectionGraph(Part):
    """Features (1, h, w, c) -> scores (1, h, w, K), 0 but where a centre is, and boxes
    (1, h, w, 4): left, top, right, bottom in cells of the feature map."""

    inputs, outputs = ("features",), ("scores", "boxes")
    spatial: Mapping[str, Spatial] = dict.fromkeys(("features", "scores", "boxes"), Spatial(1, 1))

    def __init__(self, network: DetectionNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        scores, boxes = self.network.detect(features.permute(0, 3, 1, 2))
        return _channels_last(scores), _channels_last(boxes)


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).contiguous()


def export_heads(
    recipe: Recipe, weights_sha256: str, channels: int, folder: Path
) -> dict[str, HeadInfo]:
    """Write the heads that the recipe names into a new folder; what the manifest says of them."""
    heads: dict[str, Head] = {}
    infos: dict[str, HeadInfo] = {}
    for task, file in recipe.heads.items():
        heads[task], origin = _head_for(recipe, task, file, weights_sha256, channels)
        infos[task] = HeadInfo(origin.stride, origin.classes)
    if heads:
        graphs = {task: graph_of(head) for task, head in heads.items()}
        sample = {"features": torch.zeros(1, *_SAMPLE, channels)}
        save_onnx(exported_parts(graphs, sample, 1), folder, graphs)
    return infos


def _head_for(
    recipe: Recipe, task: str, file: Path, weights_sha256: str, channels: int
) -> tuple[Head, HeadOrigin]:
    if not file.is_file():
        raise RecipeError(f"{recipe.file}: heads: {task}: there is no {file}")
    head, origin = load_head(file)
    again = "train it again (train head-seg, head-det, head-export), or leave it out of the recipe"
    if (origin.task, origin.stride, origin.channels) != (task, recipe.stride, channels):
        raise RecipeError(
            f"{recipe.file}: heads: {task}: {file.name} reads {origin.channels} channels at stride"
            f" {origin.stride} for {origin.task}, the bundle has {channels} at {recipe.stride}:"
            f" {again}"
        )
    if origin.weights_sha256 != weights_sha256:
        raise RecipeError(
            f"{recipe.file}: heads: {task}: {file.name} was trained on the features of other"
            f" weights than {recipe.weights.name}: {again}"
        )
    return head, origin


def graph_of(head: Head) -> Part:
    if isinstance(head, SegmentationNetwork):
        return SegmentationGraph(head)
    return DetectionGraph(head)
