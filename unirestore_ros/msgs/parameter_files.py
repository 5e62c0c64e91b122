"""Parameter files as users give them to a launch: where one is, and for which nodes it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml


def read_parameter_file(path: str, nodes: Iterable[str]) -> tuple[Path, list[str]]:
    """Return the file's path, with ~ expanded, and a warning for each of ``nodes``, named in full,
    for which it has nothing. ValueError, in one line, where it is no parameter file."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"params_file: there is no file {file}")
    try:
        keys = list(node_keys(yaml.safe_load(file.read_text(encoding="utf-8"))))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"params_file: {file} cannot be read: {why}") from error
    said = ", ".join(keys) or "no node"
    return file, [
        f"params_file: {file} has nothing for {node}, which runs with the defaults:"
        f" it is for {said}; /** is for every node"
        for node in nodes
        if not any(is_for(key, node) for key in keys)
    ]


def node_keys(content: object, before: str = "") -> Iterator[str]:
    """Yield the names of nodes in a parameter file, in full: namespaces may be levels of their
    own."""
    if not isinstance(content, dict):
        return
    for key, inside in content.items():
        name = f"{before}/{str(key).strip('/')}"
        if isinstance(inside, dict) and "ros__parameters" in inside:
            yield name
        else:
            yield from node_keys(inside, name)


def is_for(key: str, node: str) -> bool:
    """Tell whether a name of a parameter file means a node: * is one part of the name, ** any."""
    pattern = re.escape(key).replace(r"/\*\*", r"(/[^/]+)*").replace(r"\*", "[^/]*")
    return re.fullmatch(pattern, node) is not None


def full_name(namespace: str, name: str) -> str:
    return f"/{namespace.strip('/')}/{name}" if namespace.strip("/") else f"/{name}"
