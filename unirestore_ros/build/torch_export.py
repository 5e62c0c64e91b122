"""Export of the three parts for the ``torch`` backend: programs of torch.export, constants folded."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from unirestore_ros.build.constants import Named, with_folded_constants
from unirestore_ros.build.parts import Part

_log = logging.getLogger(__name__)


def export_torch(parts: Mapping[str, Part], given: Mapping[str, Tensor], folder: Path) -> None:
    """Write trunk.pt2, decoder.pt2 and adapter.pt2 into the folder."""
    folder.mkdir(parents=True)
    for part, module in parts.items():
        _log.info("exporting %s for torch", part)
        program = exported(module, given)
        program.example_inputs = None  # tensors as large as a frame's features
        torch.export.save(program, folder / f"{part}.pt2")


@torch.no_grad()
def exported(part: Part, given: Mapping[str, Tensor]) -> torch.export.ExportedProgram:
    """A program that takes and gives tensors by name, and holds no more than it reads."""
    inputs = {name: given[name].clone() for name in part.inputs}
    whole = torch.export.export(Named(part, part.inputs, part.outputs).eval(), (), inputs)
    folded = with_folded_constants(whole)
    return torch.export.export(folded, (), inputs)
