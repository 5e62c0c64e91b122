"""Export the three parts with torch.export, constants folded, for the ``torch`` backend."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from unirestore_ros.export.constants import Named, with_folded_constants
from unirestore_ros.export.parts import Part

_log = logging.getLogger(__name__)


Programs = Mapping[str, torch.export.ExportedProgram]


def exported_parts(parts: Mapping[str, Part], given: Mapping[str, Tensor]) -> Programs:
    """By part: a program that takes and gives tensors by name, and holds no more than it reads."""
    programs = {}
    for part, module in parts.items():
        _log.info("exporting %s", part)
        programs[part] = exported(module, given)
    return programs


@torch.no_grad()
def exported(part: Part, given: Mapping[str, Tensor]) -> torch.export.ExportedProgram:
    inputs = {name: given[name].clone() for name in part.inputs}
    whole = torch.export.export(Named(part, part.inputs, part.outputs).eval(), (), inputs)
    program = torch.export.export(with_folded_constants(whole), (), inputs)
    program.example_inputs = None  # tensors as large as a frame's features
    return program


def save_programs(programs: Programs, folder: Path) -> None:
    """Write trunk.pt2, decoder.pt2 and adapter.pt2 into the folder."""
    folder.mkdir(parents=True)
    for part, program in programs.items():
        torch.export.save(program, folder / f"{part}.pt2")
