"""Export parts with torch.export, fold their constants, and write them as programs or ONNX graphs.

Timestep embeddings and the empty prompt's keys and values become constants; weights of other parts
of the network go.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, fx, nn
from torch.export import Dim
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument

from unirestore_ros.engine.backends.parts import GAIN, IMAGE_DECODER
from unirestore_ros.engine.working_size import LARGEST
from unirestore_ros.export.parts import Part, Spatial

OPSET = 20
"""GELU is one node from 20 on; ONNX Runtime takes it from 1.17."""
EXTERNAL_FROM = 1 << 30
"""Bytes of weights from which they lie in a file beside the graph: protobuf ends at 2 GB."""
_RANDOM_OR_CHECKS = ("_assert", "_guards_fn", "dropout")
_log = logging.getLogger(__name__)

Programs = Mapping[str, torch.export.ExportedProgram]


def exported_parts(
    parts: Mapping[str, Part], given: Mapping[str, Tensor], multiple: int
) -> Programs:
    """Export parts for any height and width that are multiples of ``multiple``.

    By part: a program that takes and gives tensors by name, and holds no more than it reads.
    """
    programs = {}
    for part, module in parts.items():
        _log.info("exporting %s", part)
        programs[part] = exported(module, given, multiple)
    return programs


@torch.no_grad()
def exported(
    part: Part, given: Mapping[str, Tensor], multiple: int
) -> torch.export.ExportedProgram:
    inputs = {name: given[name].clone() for name in part.inputs}
    named = Named(part, part.inputs, part.outputs).eval()
    shapes = _dynamic_shapes(part, multiple)
    program = torch.export.export(named, (), inputs, dynamic_shapes=shapes)
    fold_constants(program)
    program.example_inputs = None  # tensors as large as a frame's features
    return program


def _dynamic_shapes(part: Part, multiple: int) -> dict[str, dict[int, Any]]:
    """Height and width of each input as multiples of what the frame's are multiples of."""
    width, height = (side // multiple for side in LARGEST)
    least = max(8 // multiple, 2)  # torch.export takes a size of 1 for a constant
    rows, columns = Dim("rows", min=least, max=height), Dim("columns", min=least, max=width)
    shapes: dict[str, dict[int, Any]] = {}
    for name in part.inputs:
        shapes[name] = {}
        if name in part.spatial:
            axis, stride = part.spatial[name]
            factor = multiple // stride
            sides = (rows, columns) if factor == 1 else (factor * rows, factor * columns)
            shapes[name] = {axis: sides[0], axis + 1: sides[1]}
    return shapes


def save_programs(programs: Programs, folder: Path) -> None:
    """Write trunk.pt2, decoder.pt2 and adapter.pt2 into the folder."""
    folder.mkdir(parents=True)
    for part, program in programs.items():
        torch.export.save(program, folder / f"{part}.pt2")


def save_onnx(
    programs: Programs,
    folder: Path,
    parts: Mapping[str, Part],
    external_from: int = EXTERNAL_FROM,
) -> None:
    """Write a graph for each program into a new folder: trunk.onnx and so on."""
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
        _name_dimensions(model.graph, parts[part].spatial)
        _save(model, folder / f"{part}.onnx", external_from)


def save_image_decoder(folder: Path) -> None:
    """Write beside ``decoder.onnx`` the same without the detail gain, if it has one: what a frame
    needs that is not reduced. ONNX Runtime computes every output that a graph declares."""
    model = onnx.load(folder / "decoder.onnx", load_external_data=False)
    graph = model.graph
    if GAIN not in [value.name for value in graph.output]:
        return
    needed = {"image"}
    nodes: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            nodes.insert(0, node)
            needed.update(node.input)
    kept = {"node": nodes, "output": [v for v in graph.output if v.name in needed]}
    kept["initializer"] = [t for t in graph.initializer if t.name in needed]
    made = {name for node in nodes for name in node.output}
    kept["value_info"] = [v for v in graph.value_info if v.name in made]
    for field, items in kept.items():
        items = copy.deepcopy(items)
        graph.ClearField(field)
        getattr(graph, field).extend(items)
    onnx.save(model, folder / f"{IMAGE_DECODER}.onnx")


def _name_dimensions(graph: onnx.GraphProto, spatial: Mapping[str, Spatial]) -> None:
    """Call the sides of inputs and outputs `height/4` and so on, by which backends pin them."""
    for value in (*graph.input, *graph.output):
        if value.name in spatial:
            axis, stride = spatial[value.name]
            sides = value.type.tensor_type.shape.dim
            sides[axis].dim_param = f"height/{stride}"
            sides[axis + 1].dim_param = f"width/{stride}"
    for value in graph.value_info:  # in terms of the exporter's own names
        value.type.tensor_type.ClearField("shape")


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


@torch.no_grad()
def fold_constants(program: torch.export.ExportedProgram) -> None:
    """Let a program compute only what depends on its inputs, and hold no more than it reads.

    It is changed in place: exporting it anew, folded, would take as long as exporting it did.
    """
    graph, specs = program.graph, program.graph_signature.input_specs
    _drop_no_ops(graph)
    known = _known_values(program)
    needed = [
        node
        for node in graph.nodes
        if node in known and node.op == "call_function" and not known.keys() >= node.users.keys()
    ]
    first = next(iter(graph.nodes))
    for count, node in enumerate(needed):
        name = f"folded{count}"
        with graph.inserting_before(first):
            constant = graph.placeholder(name)
        constant.meta["val"] = node.meta["val"].contiguous()
        node.replace_all_uses_with(constant)
        argument = TensorArgument(name=constant.name)
        specs.insert(count, InputSpec(InputKind.BUFFER, argument, name, persistent=True))
        program.state_dict[name] = known[node].detach().clone().contiguous()
    graph.eliminate_dead_code()
    _drop_unread_tensors(program)
    for node in graph.nodes:  # where it comes from: paths of the machine that exports
        node.meta = {key: value for key, value in node.meta.items() if key == "val"}
    program.graph_module.recompile()


def _drop_no_ops(graph: fx.Graph) -> None:
    """Checks of types, and dropout, which does nothing outside training."""
    for node in list(graph.nodes):
        if "dropout" in str(node.target) and node.op == "call_function":
            node.replace_all_uses_with(node.args[0])
        if any(word in str(node.target) for word in _RANDOM_OR_CHECKS) and not node.users:
            graph.erase_node(node)


def _known_values(program: torch.export.ExportedProgram) -> Mapping[fx.Node, Tensor]:
    """Compute every tensor that no input touches, by its node."""
    tensors = {**program.constants, **program.state_dict}
    placeholders = (node for node in program.graph.nodes if node.op == "placeholder")
    known: dict[fx.Node, Tensor] = {
        node: tensors[spec.target]
        for node, spec in zip(placeholders, program.graph_signature.input_specs, strict=True)
        if spec.target is not None
    }
    for node in program.graph.nodes:
        if node.op == "call_function" and all(n in known for n in node.all_input_nodes):
            given = fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
            value = node.target(*given[0], **given[1])
            if isinstance(value, Tensor):
                known[node] = value
    return known


def _drop_unread_tensors(program: torch.export.ExportedProgram) -> None:
    specs = program.graph_signature.input_specs
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    for node, spec in zip(placeholders, list(specs), strict=True):
        if spec.target is not None and not node.users:
            program.graph.erase_node(node)
            specs.remove(spec)
    read = {spec.target for spec in specs}
    for tensors in (program.state_dict, program.constants):
        for name in set(tensors) - read:
            del tensors[name]


class Named(nn.Module):
    """A part that takes its inputs by name and gives its outputs by name.

    ``forward`` has a signature of its own for each part: torch.export reads names from it.
    """

    def __init__(self, part: nn.Module, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.part = part

        def forward(*tensors: Tensor, **given: Tensor) -> dict[str, Tensor]:
            results = self.part(*tensors, *(given[name] for name in inputs[len(tensors) :]))
            if isinstance(results, Tensor):
                results = (results,)
            return dict(zip(outputs, results, strict=True))

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, kind) for name in inputs]
        forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        self.forward = forward
