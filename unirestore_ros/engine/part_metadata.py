"""The notes that a part of a bundle carries, by the kind of file that it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from unirestore_ros.engine import onnx_metadata, pt2_metadata
from unirestore_ros.engine.prompts import read_prompts

_READERS: Mapping[str, Callable[[Path], dict[str, str]]] = {
    ".onnx": onnx_metadata.read_metadata,
    ".pt2": pt2_metadata.read_metadata,
    ".safetensors": lambda path: read_prompts(path)[1],
}
_WRITERS: Mapping[str, Callable[[Path, Mapping[str, str]], None]] = {
    ".onnx": onnx_metadata.add_metadata,
    ".pt2": pt2_metadata.add_metadata,
}


def read_metadata(path: Path) -> dict[str, str]:
    """ValueError where the file is not what its name says."""
    return _READERS[path.suffix](path)


def add_metadata(path: Path, entries: Mapping[str, str]) -> None:
    """Add entries; ValueError where the file has others under these names."""
    _WRITERS[path.suffix](path, entries)
