"""What the backends share: the tensors that the parts exchange, checked when a bundle is loaded."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from unirestore_ros.engine.bundle import Bundle, BundleError

_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """Type of a tensor, by NumPy's name or bfloat16, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} of shape {self.shape}"


TensorSpecs = Mapping[str, TensorSpec]
"""By the tensor's name."""


class PartFile:
    """The file of a part: refusals name it, and the command that fixes it."""

    def __init__(self, bundle: Bundle, path: str) -> None:
        self.bundle, self.path = bundle, path

    def refuse(self, problem: str) -> NoReturn:
        raise BundleError(
            f"bundle {self.bundle.folder}: {self.path}: {problem}", self.bundle.build_command()
        )

    def check_output(self, name: str, tensors: TensorSpecs, wanted: TensorSpec) -> None:
        """Check that the part has an output (or input) of that name, as the manifest has it."""
        if name not in tensors:
            self.refuse(f"{name} is not among its {', '.join(tensors) or 'tensors'}")
        if tensors[name] != wanted:
            self.refuse(f"{name} is {tensors[name]}, must be {wanted}")

    def check_inputs(self, inputs: TensorSpecs, sources: TensorSpecs) -> None:
        """Check that every input has a source of its name, type and shape."""
        for name, wanted in inputs.items():
            if name not in sources:
                self.refuse(f"its input {name} is none of {', '.join(sources)}")
            if sources[name] != wanted:
                self.refuse(f"its input {name} is {wanted}, but comes as {sources[name]}")


def frame_spec(bundle: Bundle) -> TensorSpec:
    """Of frames and images: (1, H, W, 3) uint8 RGB."""
    width, height = bundle.manifest.input_size
    return TensorSpec("uint8", (1, height, width, 3))


def feature_spec(bundle: Bundle) -> TensorSpec:
    """Of feature maps: (1, h, w, c) float32."""
    return TensorSpec("float32", (1, *bundle.manifest.feature_shape))


def prompt_spec(bundle: Bundle) -> TensorSpec:
    """Of prompts: (1, T, C) float32."""
    return TensorSpec("float32", (1, *bundle.manifest.prompt_shape))


def physical_cores() -> int:
    """Count the cores that this process may run on, hyper-threads of one core once."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(_SIBLINGS.format(cpu))
        cores.add(siblings.read_text() if siblings.is_file() else str(cpu))
    return len(cores)
