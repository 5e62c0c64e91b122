"""A recipe -> a bundle: weights, export, manifest; whole or absent."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from unirestore_ros.build.export import export_onnx, parts_of, sample_tensors
from unirestore_ros.build.fold import folded
from unirestore_ros.build.recipe import Recipe, for_size, read_recipe
from unirestore_ros.build.torch_export import export_torch
from unirestore_ros.engine.bundle import Bundle, read_bundle
from unirestore_ros.engine.manifest import PARTS, BackendInfo, Manifest
from unirestore_ros.engine.prompts import Prompts
from unirestore_ros.engine.writing import write_bundle
from unirestore_ros.files import folder_written_beside, sha256_of
from unirestore_ros.model import UniRestore
from unirestore_ros.model.weights import load_weights
from unirestore_ros.tasks import long_name

_VERSIONS = {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__}


def build(
    recipe_file: Path,
    out: Path | None = None,
    size: tuple[int, int] | None = None,
    backend: str | None = None,
) -> Bundle:
    """Compile a recipe, or its variant for frames of another size (width, height) or one backend.

    The bundle takes its place in one step, beside the recipe unless told.
    """
    recipe = read_recipe(recipe_file)
    if backend is not None:
        recipe = dataclasses.replace(recipe, backends=(backend,))
    network = load_weights(recipe.weights)
    if size is not None and size != recipe.input_size:
        recipe = for_size(recipe, size, max(network.config.tfa.strides))
    folder = out if out is not None else recipe.file.with_name(recipe.name)
    with folder_written_beside(folder) as beside:
        _export(network, recipe, beside)
        write_bundle(beside, _manifest(network, recipe), _prompts(network))
    return read_bundle(folder)


def _export(network: UniRestore, recipe: Recipe, folder: Path) -> None:
    parts = parts_of(folded(network.eval()), recipe)
    given = sample_tensors(network, parts["trunk"], recipe)
    if "torch" in recipe.backends:
        export_torch(parts, given, folder / "torch")
    if "onnxruntime" in recipe.backends:
        export_onnx(parts, given, folder / "onnxruntime")


def _prompts(network: UniRestore) -> Prompts:
    return {
        long_name(task): network.prompts[task].detach().numpy().astype(np.float32)
        for task in network.config.tasks
    }


def _manifest(network: UniRestore, recipe: Recipe) -> Manifest:
    config = network.config
    width, height = recipe.working_size
    channels = config.tfa.feature_channels[network.level_of(recipe.stride)]
    return Manifest(
        name=recipe.name,
        model=config.name,
        recipe=f"engines/{recipe.file.name}",
        weights_sha256=sha256_of(recipe.weights),
        steps=recipe.steps,
        input_size=recipe.input_size,
        working_size=recipe.working_size,
        aspect_error=recipe.aspect_error,
        strides=config.tfa.strides,
        channels=config.tfa.feature_channels,
        stride=recipe.stride,
        feature_shape=(height // recipe.stride, width // recipe.stride, channels),
        prompt_shape=(config.tfa.prompt_length, config.skip_channels[-1]),
        tasks=tuple(_prompts(network)),
        precision=dict.fromkeys(PARTS, "fp32"),
        largest_activation=dict.fromkeys(PARTS),
        backends={name: BackendInfo(version=_VERSIONS[name]) for name in recipe.backends},
    )
