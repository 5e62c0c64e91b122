"""Recipes: ``engines/NAME.yaml``, what a bundle is built from and for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from unirestore_ros.engine.manifest import BACKENDS

BUILDABLE = BACKENDS
"""The backends that this version builds for."""


HALF = ("fp16", "bf16")


class RecipeError(ValueError):
    """A recipe that cannot be built; the message names the file and the field."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Sizes are (width, height) in pixels; ``weights`` is a path beside the recipe."""

    name: str
    file: Path
    weights: Path
    working_size: tuple[int, int]
    """Its pixels are the budget of every working size; parts are measured at it."""
    steps: int
    stride: int
    backends: tuple[str, ...]
    shorter_side: int | None = None
    """The shorter side of every working size; None: the budget of pixels alone counts."""
    precision: str = "fp32"
    """The one preferred: a part whose range or error does not allow it gets another."""
    compiled_sides: tuple[int, int] | None = None
    """Least and largest side of the padded working sizes that TensorRT compiles for; None: all."""
    reference_db: float = 35.0
    """PSNR to float32 below which an output of a compiled backend makes it refused."""
    model: str | None = None
    """The model that the weights must be of; None: any."""
    tasks: tuple[str, ...] | None = None
    """Long names; None: all that the weights have a prompt for."""
    heads: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    """Weights of the feature heads by task, paths beside the recipe; the recipe may have none."""


def read_recipe(file: Path) -> Recipe:
    try:
        values = yaml.safe_load(file.read_text())
    except FileNotFoundError:
        raise RecipeError(f"{file}: there is no such recipe") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{file}: not YAML: {error}") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{file}: must be a mapping of fields")
    return _checked(file, values)


_REQUIRED = {"weights", "working_size", "steps", "stride", "backends"}
_OPTIONAL = {
    "shorter_side",
    "precision",
    "compiled_sides",
    "reference_db",
    "model",
    "tasks",
    "heads",
}


def _checked(file: Path, values: dict[str, Any]) -> Recipe:
    for field in sorted(_REQUIRED - set(values)):
        raise RecipeError(f"{file}: {field} is missing")
    for field in sorted(set(values) - _REQUIRED - _OPTIONAL):
        known = sorted(_REQUIRED | _OPTIONAL)
        raise RecipeError(f"{file}: {field} is not a field; they are {known}")
    recipe = Recipe(
        name=file.stem,
        file=file,
        weights=file.parent / str(values["weights"]),
        working_size=_size(file, "working_size", values["working_size"]),
        steps=_whole(file, "steps", values["steps"]),
        stride=_whole(file, "stride", values["stride"]),
        backends=_names(file, "backends", values["backends"]),
        shorter_side=_whole(file, "shorter_side", values["shorter_side"])
        if "shorter_side" in values
        else None,
        precision=values.get("precision", "fp32"),
        compiled_sides=_size(file, "compiled_sides", values["compiled_sides"])
        if "compiled_sides" in values
        else None,
        reference_db=_decibels(file, values.get("reference_db", 35.0)),
        model=values.get("model"),
        tasks=_names(file, "tasks", values["tasks"]) if "tasks" in values else None,
        heads=_heads(file, values.get("heads", {})),
    )
    check_backends(recipe)
    return recipe


def check_backends(recipe: Recipe) -> None:
    """RecipeError unless this version builds for its backends, in its precision."""
    for name in recipe.backends:
        if name not in BUILDABLE:
            hint = "not built by this version" if name in BACKENDS else "not known"
            raise RecipeError(f"{recipe.file}: backends: {name} is {hint}; choose from {BUILDABLE}")
    if recipe.precision not in ("fp32", *HALF):
        raise RecipeError(
            f"{recipe.file}: precision must be fp32, fp16 or bf16, is {recipe.precision!r}"
        )
    if recipe.precision in HALF and "onnxruntime" in recipe.backends:
        raise RecipeError(
            f"{recipe.file}: precision {recipe.precision} is for TensorRT and torch; ONNX Runtime "
            f"cannot run it on a CPU: use --precision fp32, or another --backend"
        )


def _names(file: Path, field: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise RecipeError(f"{file}: {field} must be a list of names, is {value!r}")
    return tuple(value)


def _heads(file: Path, value: Any) -> dict[str, Path]:
    if not isinstance(value, dict) or not all(isinstance(part, str) for part in value.values()):
        raise RecipeError(f"{file}: heads must be a mapping of tasks to files, is {value!r}")
    return {str(task): file.parent / name for task, name in value.items()}


def _whole(file: Path, field: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RecipeError(f"{file}: {field} must be a whole number from 1 on, is {value!r}")
    return value


def _decibels(file: Path, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 10 <= value <= 200:
        raise RecipeError(f"{file}: reference_db must be from 10 to 200 dB, is {value!r}")
    return float(value)


def _size(file: Path, field: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise RecipeError(f"{file}: {field} must be [width, height], is {value!r}")
    return _whole(file, field, value[0]), _whole(file, field, value[1])
