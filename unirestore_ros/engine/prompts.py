"""``prompts.safetensors``: one float32 tensor (T, C) a task, under its published short name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from unirestore_ros.engine.errors import BundleError
from unirestore_ros.tasks import long_name, short_name

Prompts = Mapping[str, NDArray[np.float32]]
"""By task name, the long one."""


def read_prompts(path: Path) -> tuple[Prompts, dict[str, str]]:
    """Unchecked prompts and the file's metadata; ValueError where it is no safetensors file."""
    tensors, metadata = _read(path)
    return {long_name(key): tensor for key, tensor in tensors.items()}, metadata


def write_prompts(path: Path, prompts: Prompts, metadata: Mapping[str, str]) -> None:
    tensors = {short_name(task): np.ascontiguousarray(prompt) for task, prompt in prompts.items()}
    save_file(tensors, path, dict(metadata))
    path.chmod(0o644)  # safetensors gives its owner alone the right to read


def read_new_prompt(path: Path, task: str, shape: tuple[int, int]) -> NDArray[np.float32]:
    """The tensor named after the task in either way, or the only one; BundleError with a reason."""
    try:
        tensors, _ = _read(path)
        names = [name for name in (task, short_name(task)) if name in tensors]
        if not names and len(tensors) != 1:
            raise ValueError(
                f"it holds {', '.join(sorted(tensors)) or 'nothing'}; "
                f"wanted is one tensor, or one named {task}"
            )
        name = names[0] if names else next(iter(tensors))
        check_prompt(name, tensors[name], shape)
        return tensors[name]
    except (ValueError, OSError) as error:
        raise BundleError(f"prompt file {path}: {error}") from error


def check_prompt(name: str, prompt: NDArray[np.float32], shape: tuple[int, int]) -> None:
    """ValueError unless it is float32, of the bundle's shape, and finite."""
    if prompt.dtype != np.float32:
        raise ValueError(f"tensor {name} must be float32, is {prompt.dtype}")
    if prompt.shape != shape:
        raise ValueError(f"tensor {name} must have the shape {shape}, has {prompt.shape}")
    if not np.isfinite(prompt).all():
        raise ValueError(f"tensor {name} has values that are not finite")


def _read(path: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"not a safetensors file: {error}") from error
