"""The names of tasks: one table between ROS and the published checkpoints.

ROS topics, command lines, manifests and JSON use the long names; checkpoints,
``prompts.safetensors`` and the Python API of the network use the published short ones.
A task that a user adds has one name, the same in both worlds.
"""

from __future__ import annotations

import re

SHORT_NAMES = {
    "perception": "ir",
    "classification": "cls",
    "segmentation": "seg",
    "detection": "det",
}
LONG_NAMES = {short: long for long, short in SHORT_NAMES.items()}

_SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def short_name(task: str) -> str:
    """Name of a task in checkpoints: ``segmentation`` -> ``seg``; a user's task keeps its name."""
    return SHORT_NAMES.get(task, task)


def long_name(key: str) -> str:
    """Name of a task in ROS and manifests: ``seg`` -> ``segmentation``."""
    return LONG_NAMES.get(key, key)


def check_task_name(name: str) -> str:
    """The name itself if it is snake_case, which every ROS topic accepts; else ValueError."""
    if not _SNAKE_CASE.fullmatch(name):
        raise ValueError(f"task name {name!r} is not snake_case: use letters a-z, digits and _")
    return name
