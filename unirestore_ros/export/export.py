"""The exported parts as ONNX graphs of fixed shapes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import onnx
import torch

from unirestore_ros.export.torch_export import Programs

OPSET = 20
"""GELU is one node from 20 on; ONNX Runtime takes it from 1.17."""

_log = logging.getLogger(__name__)


EXTERNAL_FROM = 1 << 30
"""Bytes of weights from which they lie in a file beside the graph: protobuf ends at 2 GB."""


def save_onnx(
    programs: Programs,
    folder: Path,
    external_from: int = EXTERNAL_FROM,
    check: Callable[[onnx.ModelProto], list[str]] | None = None,
) -> None:
    """Write a graph for each program into a new folder: trunk.onnx and so on.

    ``check`` gives a line for each thing in a graph that its reader will not take: ValueError.
    """
    folder.mkdir(parents=True)
    for part, program in programs.items():
        _log.info("converting %s to ONNX", part)
        outputs = program.call_spec.out_spec
        assert outputs is not None
        converted = torch.onnx.export(
            program,
            input_names=list(program.graph_signature.user_inputs),
            output_names=list(outputs.context),
            opset_version=OPSET,
            dynamo=True,
            optimize=True,
            verbose=False,
        )
        assert converted is not None
        model = without_origins(converted.model_proto)
        if check is not None and (problems := check(model)):
            raise ValueError(f"{part}: not for this backend:\n  " + "\n  ".join(problems))
        _save(model, folder / f"{part}.onnx", external_from)


def _save(model: onnx.ModelProto, file: Path, external_from: int) -> None:
    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if weights < external_from:
        onnx.save(model, file)
        return
    beside = file.with_suffix(".onnx.data")
    onnx.save(model, file, save_as_external_data=True, location=beside.name)
    beside.chmod(0o644)  # onnx gives its owner alone the right to read


def without_origins(model: onnx.ModelProto) -> onnx.ModelProto:
    """Strip what the exporter notes of where each node came from: stack traces with the paths of
    the machine that exported, a fifth of a graph's bytes."""
    graph = model.graph
    for item in (*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    for holder in (graph, model):
        holder.ClearField("metadata_props")
        holder.ClearField("doc_string")
    return model
