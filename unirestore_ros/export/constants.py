"""Constant folding in an exported program, and the removal of what it does not read.

Timestep embeddings, the empty prompt's keys and values, and the crop of the stored noise become
constants; weights of other parts of the network go.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

_RANDOM_OR_CHECKS = ("_assert", "_guards_fn", "dropout")


@torch.no_grad()
def with_folded_constants(program: torch.export.ExportedProgram) -> fx.GraphModule:
    """The program as a module that computes from its inputs only what depends on them."""
    module = program.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    graph = module.graph
    _drop_no_ops(graph)
    known = _known_values(module)
    needed = {
        node
        for node in known
        if any(user not in known for user in node.users) and node.op != "get_attr"
    }
    for count, node in enumerate(sorted(needed, key=list(graph.nodes).index)):
        name = f"folded{count}"
        value = known[node]
        module.register_buffer(name, value.detach().clone().contiguous())
        with graph.inserting_before(node):
            node.replace_all_uses_with(graph.get_attr(name))
    graph.eliminate_dead_code()
    _drop_unread_tensors(module)
    module.recompile()
    return module


def _drop_no_ops(graph: fx.Graph) -> None:
    """Checks of types, and dropout, which does nothing outside training."""
    for node in list(graph.nodes):
        if "dropout" in str(node.target) and node.op == "call_function":
            node.replace_all_uses_with(node.args[0])
        if any(word in str(node.target) for word in _RANDOM_OR_CHECKS) and not node.users:
            graph.erase_node(node)


def _known_values(module: fx.GraphModule) -> Mapping[fx.Node, Tensor]:
    """Every tensor that no input touches, by its node."""
    known: dict[fx.Node, Tensor] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            known[node] = operator.attrgetter(str(node.target))(module)
        elif node.op == "call_function" and all(n in known for n in node.all_input_nodes):
            given = fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
            value = node.target(*given[0], **given[1])
            if isinstance(value, Tensor):
                known[node] = value
    return known


def _drop_unread_tensors(module: fx.GraphModule) -> None:
    read = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for name, _ in [*module.named_parameters(), *module.named_buffers()]:
        if name not in read:
            path, _, leaf = name.rpartition(".")
            delattr(module.get_submodule(path), leaf)
    module.delete_all_unused_submodules()


class Named(nn.Module):
    """A part that takes its inputs by name and gives its outputs by name."""

    def __init__(self, part: nn.Module, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.part, self.inputs, self.outputs = part, inputs, outputs

    def forward(self, **given: Tensor) -> dict[str, Tensor]:
        results = self.part(*(given[name] for name in self.inputs))
        if isinstance(results, Tensor):
            results = (results,)
        return dict(zip(self.outputs, results, strict=True))
