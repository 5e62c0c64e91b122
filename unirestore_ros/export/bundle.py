"""A recipe -> a bundle: weights, export, manifest; whole or absent."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import onnxruntime
import torch

from unirestore_ros.engine.bundle import Bundle, read_bundle
from unirestore_ros.engine.manifest import COMPILED, BackendInfo, Manifest
from unirestore_ros.engine.reference import write_reference
from unirestore_ros.engine.writing import write_bundle
from unirestore_ros.export.compile import CompileOptions, check_compiler, compile_bundle
from unirestore_ros.export.export import (
    Programs,
    exported_parts,
    save_image_decoder,
    save_onnx,
    save_programs,
)
from unirestore_ros.export.heads import export_heads
from unirestore_ros.export.measure import Frame, Measured, frames_for
from unirestore_ros.export.parts import Part
from unirestore_ros.export.plan import Plan
from unirestore_ros.export.recipe import HALF, Recipe, check_backends, read_recipe
from unirestore_ros.files import folder_written_beside, sha256_of
from unirestore_ros.model.unirestore import LEAST_SIDE
from unirestore_ros.model.weights import load_weights

_VERSIONS = {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__}
"""TensorRT's is known once its parts are compiled."""
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Variant:
    """How a bundle is to differ from its recipe, and what it is measured on."""

    backend: str | None = None
    precision: str | None = None
    frames: Path | None = None
    """A folder of images; None: the synthetic drive."""
    measure: bool = True
    onnx_only: bool = False
    """Export for TensorRT and leave compiling to the vehicle."""
    compile_options: CompileOptions = dataclasses.field(default_factory=CompileOptions)


def build(recipe_file: Path, out: Path | None = None, variant: Variant | None = None) -> Bundle:
    """Compile a recipe or a variant of it. The bundle takes its place in one step, beside the
    recipe unless told."""
    variant = variant or Variant()
    recipe = read_recipe(recipe_file)
    network = load_weights(recipe.weights)
    recipe = _varied(recipe, variant)
    compiles = [] if variant.onnx_only else [b for b in recipe.backends if b in COMPILED]
    for backend in compiles:
        check_compiler(backend, variant.compile_options)
    plan = Plan(network, recipe)
    folder = out if out is not None else recipe.file.with_name(recipe.name)
    frames = frames_for(recipe.working_size, network.config.multiple, variant.frames)
    bundle = write_from(plan, sha256_of(recipe.weights), folder, frames, variant.measure)
    if compiles:
        options = dataclasses.replace(variant.compile_options, sides=recipe.compiled_sides)
        bundle = compile_bundle(folder, options, compiles)
    return bundle


def write_from(
    plan: Plan,
    weights_sha256: str,
    folder: Path,
    frames: Sequence[Frame],
    measure: bool = True,
) -> Bundle:
    """Make the bundle that a plan describes."""
    plan.narrow(weights_sha256, frames)
    measured = plan.measured(frames if measure else None)
    for part, precision in measured.precision.items():
        _log.info("%s in %s, largest activation %s", part, precision, measured.largest[part])
    with folder_written_beside(folder) as beside:
        _export(plan, measured, beside)
        write_reference(beside, frames[0], plan.reference(frames[0]))
        prompts = {task: prompt.numpy() for task, prompt in plan.prompts.items()}
        manifest = _manifest(plan, measured, weights_sha256)
        heads = export_heads(plan.recipe, weights_sha256, plan.channels, beside / "heads")
        write_bundle(beside, dataclasses.replace(manifest, heads=heads), prompts)
    return read_bundle(folder)


def _varied(recipe: Recipe, variant: Variant) -> Recipe:
    if variant.backend is not None:
        recipe = dataclasses.replace(recipe, backends=(variant.backend,))
    if variant.precision is not None:
        recipe = dataclasses.replace(recipe, precision=variant.precision)
    check_backends(recipe)
    return recipe


def _export(plan: Plan, measured: Measured, folder: Path) -> None:
    """Write the parts for each backend. In fp32 one program serves all of them."""
    in_half = any(precision in HALF for precision in measured.precision.values())

    @functools.cache
    def programs(explicit: bool) -> tuple[Programs, dict[str, Part]]:
        parts = plan.parts(measured.precision, explicit)
        sample = plan.sample(parts["trunk"])
        return exported_parts(parts, sample, plan.config.multiple), parts

    graphs: Path | None = None  # the same for every backend that reads ONNX
    for backend in plan.recipe.backends:
        if backend == "torch":
            save_programs(programs(False)[0], folder / backend)
        elif graphs is not None:
            shutil.copytree(graphs, folder / backend, copy_function=os.link)
        else:
            graphs = folder / backend
            exported, parts = programs(in_half)
            save_onnx(exported, graphs, parts)
    if "onnxruntime" in plan.recipe.backends:
        save_image_decoder(folder / "onnxruntime")


def _manifest(plan: Plan, measured: Measured, weights_sha256: str) -> Manifest:
    recipe, config = plan.recipe, plan.config
    return Manifest(
        name=recipe.name,
        model=config.name,
        recipe=f"engines/{recipe.file.name}",
        weights_sha256=weights_sha256,
        steps=recipe.steps,
        working_size=recipe.working_size,
        shorter_side=recipe.shorter_side,
        multiple=config.multiple,
        least_side=LEAST_SIDE,
        strides=config.tfa.strides,
        channels=config.tfa.feature_channels,
        stride=recipe.stride,
        feature_channels=plan.channels,
        prompt_shape=(config.tfa.prompt_length, config.skip_channels[-1]),
        tasks=tuple(plan.prompts),
        detail_gain=config.detail_gain,
        precision=measured.precision,
        reference_db=recipe.reference_db,
        largest_activation=_rounded(measured.largest),
        backends={name: BackendInfo(version=_VERSIONS.get(name)) for name in recipe.backends},
    )


def _rounded(largest: dict[str, float | None]) -> dict[str, float | None]:
    return {part: None if value is None else round(value, 2) for part, value in largest.items()}
