"""The notes that a part of a bundle carries, by the kind of file that it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from unirestore_ros.engine import onnx_metadata, pt2_metadata
from unirestore_ros.files import written_beside


def read_metadata(path: Path) -> dict[str, str]:
    """ValueError where the file is not what its name says."""
    return _READERS[path.suffix](path)


def add_metadata(path: Path, entries: Mapping[str, str]) -> None:
    """Add entries; ValueError where the file has others under these names."""
    _WRITERS[path.suffix](path, entries)


def _read_safetensors(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"not a safetensors file: {error}") from error


def _add_to_safetensors(path: Path, entries: Mapping[str, str]) -> None:
    present = _read_safetensors(path)
    if present == entries:
        return
    if present:
        raise ValueError(f"{path.name} carries the fields of another bundle")
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    with written_beside(path) as beside:
        save_file(tensors, beside, dict(entries))


_READERS: Mapping[str, Callable[[Path], dict[str, str]]] = {
    ".onnx": onnx_metadata.read_metadata,
    ".pt2": pt2_metadata.read_metadata,
    ".safetensors": _read_safetensors,
}
_WRITERS: Mapping[str, Callable[[Path, Mapping[str, str]], None]] = {
    ".onnx": onnx_metadata.add_metadata,
    ".pt2": pt2_metadata.add_metadata,
    ".safetensors": _add_to_safetensors,
}
