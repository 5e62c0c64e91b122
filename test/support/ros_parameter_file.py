"""Parameter files are the documentation of the parameters: they are held to the code."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import yaml
from rclpy.parameter import Parameter

from unirestore_ros.msgs.parameter_struct import NodeParameters

KINDS = {
    bool: "boolean",
    int: "integer",
    str: "string",
    tuple: "list of strings",
}


def check_agrees(path: Path, defaults: NodeParameters, node: str = "/**") -> None:
    """Names, order, values and the comment above each, of one node of the file."""
    text = path.read_text()
    values = yaml.safe_load(text)[node]["ros__parameters"]
    text = re.split(r"^(?=/)", text.split(f"{node}:\n")[1], flags=re.MULTILINE)[0]
    changes = [Parameter(name, value=value) for name, value in values.items()]
    assert defaults.changed(changes) == defaults
    assert list(values) == list(defaults.specs())
    comments = documented(text)
    for field in dataclasses.fields(defaults):
        spec = defaults.specs()[field.name]
        facts = filter(None, (KINDS[type(field.default)], spec.constraint, spec.change.value))
        expected = f"{spec.description}. {'; '.join(facts)}."
        assert comments[field.name].lower() == expected.lower()


def documented(text: str) -> dict[str, str]:
    """Comment above each key, as one line."""
    found, comment = {}, []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped.lstrip("# "))
        elif match := re.match(r"(\w+): .", stripped):
            found[match[1]] = " ".join(comment)
        if not stripped.startswith("#"):
            comment = []
    return found
