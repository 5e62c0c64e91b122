"""Export of the three parts to ONNX with fixed shapes, constants folded."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from torch import Tensor

from unirestore_ros.build.parts import Adapter, Decoder, Part, Trunk
from unirestore_ros.build.recipe import Recipe, RecipeError
from unirestore_ros.model import UniRestore

OPSET = 20
"""GELU is one node from 20 on; ONNX Runtime takes it from 1.17."""

_log = logging.getLogger(__name__)


def parts_of(network: UniRestore, recipe: Recipe) -> dict[str, Part]:
    """The modules to export, by part."""
    strides = network.config.tfa.strides
    coarsest = max(strides)
    if any(side % coarsest for side in recipe.working_size):
        raise RecipeError(
            f"{recipe.file}: working_size must have sides that are multiples of {coarsest}"
        )
    if recipe.stride not in strides:
        raise RecipeError(f"{recipe.file}: stride must be one of {strides}, is {recipe.stride}")
    sizes = (recipe.input_size, recipe.working_size)
    return {
        "trunk": Trunk(network, *sizes, recipe.steps),
        "decoder": Decoder(network, *sizes),
        "adapter": Adapter(network, recipe.working_size, recipe.stride),
    }


@torch.inference_mode()
def sample_tensors(network: UniRestore, trunk: Part, recipe: Recipe) -> dict[str, Tensor]:
    """One tensor for every input of every part, made by running the trunk on a seeded frame."""
    width, height = recipe.input_size
    generator = torch.Generator().manual_seed(0)
    frame = torch.randint(0, 256, (1, height, width, 3), generator=generator, dtype=torch.uint8)
    given = dict(zip(trunk.outputs, trunk(frame), strict=True))
    prompt = next(iter(network.prompts.values())).detach()[None]
    return {"frame": frame, "prompt": prompt, **given}


def export_onnx(parts: Mapping[str, Part], given: Mapping[str, Tensor], folder: Path) -> None:
    """Write trunk.onnx, decoder.onnx and adapter.onnx into the folder."""
    folder.mkdir(parents=True)
    for part, module in parts.items():
        _log.info("exporting %s to ONNX", part)
        program = torch.onnx.export(
            module.eval(),
            tuple(given[name].clone() for name in module.inputs),
            input_names=list(module.inputs),
            output_names=list(module.outputs),
            opset_version=OPSET,
            dynamo=True,
            optimize=True,
            verbose=False,
        )
        assert program is not None
        onnx.save(without_origins(program.model_proto), folder / f"{part}.onnx")


def without_origins(model: onnx.ModelProto) -> onnx.ModelProto:
    """Strip what the exporter notes of where each node came from: stack traces with the paths of
    the machine that exported, a fifth of a graph's bytes."""
    graph = model.graph
    for item in (*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    for holder in (graph, model):
        holder.ClearField("metadata_props")
        holder.ClearField("doc_string")
    return model
