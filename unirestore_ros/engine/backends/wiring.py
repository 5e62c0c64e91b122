"""How the parts of a bundle fit together, checked when they are loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NoReturn

from unirestore_ros.engine.bundle import Bundle
from unirestore_ros.engine.errors import BundleError


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a tensor is: its type, by NumPy's name or bfloat16, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} of shape {self.shape}"


Kinds = Mapping[str, Kind]


class PartFile:
    """The file of a part: what it is refused for names it, and the command that mends it."""

    def __init__(self, bundle: Bundle, path: str) -> None:
        self.bundle, self.path = bundle, path

    def refuse(self, problem: str) -> NoReturn:
        raise BundleError(
            f"bundle {self.bundle.folder}: {self.path}: {problem}", self.bundle.build_command()
        )

    def expect(self, name: str, tensors: Kinds, wanted: Kind) -> None:
        """The input or output of that name must be there, as the manifest has it."""
        if name not in tensors:
            self.refuse(f"{name} is not among its {', '.join(tensors) or 'tensors'}")
        if tensors[name] != wanted:
            self.refuse(f"{name} is {tensors[name]}, must be {wanted}")

    def check_sources(self, inputs: Kinds, sources: Kinds) -> None:
        """Every input must have a source of its name and kind."""
        for name, wanted in inputs.items():
            if name not in sources:
                self.refuse(f"its input {name} is none of {', '.join(sources)}")
            if sources[name] != wanted:
                self.refuse(f"its input {name} is {wanted}, but comes as {sources[name]}")


def frame_kind(bundle: Bundle) -> Kind:
    """Of frames and images, (1, H, W, 3)."""
    width, height = bundle.manifest.input_size
    return Kind("uint8", (1, height, width, 3))


def feature_kind(bundle: Bundle) -> Kind:
    return Kind("float32", (1, *bundle.manifest.feature_shape))


def prompt_kind(bundle: Bundle) -> Kind:
    return Kind("float32", (1, *bundle.manifest.prompt_shape))
