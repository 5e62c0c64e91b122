"""Recipes: ``engines/NAME.yaml``, what a bundle is built from and for."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from unirestore_ros.engine.manifest import BACKENDS, aspect_error

BUILDABLE = ("torch", "onnxruntime")
"""The backends that this version builds for."""


class RecipeError(ValueError):
    """A recipe that cannot be built; the message names the file and the field."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Sizes are (width, height) in pixels; ``weights`` is a path beside the recipe."""

    name: str
    file: Path
    weights: Path
    input_size: tuple[int, int]
    working_size: tuple[int, int]
    steps: int
    stride: int
    backends: tuple[str, ...]

    @property
    def aspect_error(self) -> float:
        return aspect_error(self.input_size, self.working_size)


def for_size(recipe: Recipe, size: tuple[int, int], multiple: int) -> Recipe:
    """The recipe for frames of another size (width, height), under a name of its own.

    The working size is the frame's, each side rounded to a multiple of the coarsest stride.
    """
    width, height = size
    working = (_rounded(width, multiple), _rounded(height, multiple))
    name = f"{recipe.name}-{width}x{height}"
    return dataclasses.replace(recipe, name=name, input_size=size, working_size=working)


def _rounded(side: int, multiple: int) -> int:
    return max(round(side / multiple), 1) * multiple


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


def _checked(file: Path, values: dict[str, Any]) -> Recipe:
    known = {"weights", "input_size", "working_size", "steps", "stride", "backends"}
    for field in sorted(set(values) ^ known):
        problem = "is missing" if field in known else f"is not a field; they are {sorted(known)}"
        raise RecipeError(f"{file}: {field} {problem}")
    backends = tuple(values["backends"])
    for name in backends:
        if name not in BUILDABLE:
            hint = "not built by this version" if name in BACKENDS else "not known"
            raise RecipeError(f"{file}: backends: {name} is {hint}; choose from {BUILDABLE}")
    return Recipe(
        name=file.stem,
        file=file,
        weights=file.parent / str(values["weights"]),
        input_size=_size(file, "input_size", values["input_size"]),
        working_size=_size(file, "working_size", values["working_size"]),
        steps=_whole(file, "steps", values["steps"]),
        stride=_whole(file, "stride", values["stride"]),
        backends=backends,
    )


def _whole(file: Path, field: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RecipeError(f"{file}: {field} must be a whole number from 1 on, is {value!r}")
    return value


def _size(file: Path, field: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise RecipeError(f"{file}: {field} must be [width, height], is {value!r}")
    return _whole(file, field, value[0]), _whole(file, field, value[1])
