"""Load an exported program (.pt2) without unpickling anything.

``torch.export.load`` unpickles what an archive declares as pickled, sample inputs and custom
objects among them, and falls back to unrestricted pickles by itself: a bundle could run any
command. The programs that `build` writes hold none: their tensors are raw bytes, their sample
inputs empty. So every record that could be pickled, or be native code, is refused before PyTorch
reads one.

What remains is a graph that names operators of PyTorch. It is still a program, to be trusted like
one: see ``bundle_files.distrust``.
"""

from __future__ import annotations

import io
import json
import re

import torch

_MODEL = "model"
_SAMPLE_INPUTS = f"data/sample_inputs/{_MODEL}.pt"
_CONFIGS = (
    f"data/weights/{_MODEL}_weights_config.json",
    f"data/constants/{_MODEL}_constants_config.json",
)
_TENSOR = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
_PLAIN = {
    f"models/{_MODEL}.json",
    _SAMPLE_INPUTS,
    *_CONFIGS,
    "archive_format",
    "archive_version",
    "byteorder",
    "version",
    ".data/version",
    ".data/serialization_id",
}


def load_program(content: bytes) -> torch.export.ExportedProgram:
    """Load a program from an archive's bytes; ValueError where it holds a pickle, or is none."""
    try:
        from torch.export.pt2_archive._package import load_pt2
    except ImportError as error:
        raise ValueError("this version reads exported programs as pickles only: update") from error
    check_no_pickles(content)
    try:
        # Not torch.export.load, which takes an archive that fails for one of its older, pickled
        # form.
        programs = load_pt2(io.BytesIO(content)).exported_programs
    except (RuntimeError, AssertionError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"no exported program: {error}") from error
    if set(programs) != {_MODEL}:
        raise ValueError(f"it holds the programs {sorted(programs)}, must be {_MODEL} alone")
    return programs[_MODEL]


def check_no_pickles(content: bytes) -> None:
    """Raise ValueError where a record of the archive could be pickled, or be native code.

    The archive is read by PyTorch's own reader, which will read it again: so there are no two
    opinions on what it holds.
    """
    from torch.export.pt2_archive import PT2ArchiveReader

    try:
        with PT2ArchiveReader(io.BytesIO(content)) as reader:
            names: list[str] = reader.get_file_names()
            for name in names:
                if name not in _PLAIN and not _TENSOR.fullmatch(name):
                    raise ValueError(f"{name} has no place in it: it may be code")
            if _SAMPLE_INPUTS in names and reader.read_bytes(_SAMPLE_INPUTS):
                raise ValueError(f"{_SAMPLE_INPUTS} is a pickle, which may be code")
            for name in _CONFIGS:
                _check_config(name, json.loads(reader.read_string(name)))
    except (RuntimeError, RecursionError) as error:
        raise ValueError(f"not an archive of PyTorch: {error}") from error


def _check_config(name: str, content: object) -> None:
    """Check the list of tensors: each must be raw bytes in a record of its kind."""
    entries = content.get("config") if isinstance(content, dict) else None
    if not isinstance(entries, dict):
        raise ValueError(f"{name} has no config")
    for key, entry in entries.items():
        if not isinstance(entry, dict) or entry.get("use_pickle") is not False:
            raise ValueError(f"{name}: {key} is pickled, which may be code")
        if not re.fullmatch(r"(weight|tensor)_\d+", str(entry.get("path_name"))):
            raise ValueError(f"{name}: {key} is no tensor, which may be code")
