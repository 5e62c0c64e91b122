"""The names of tasks and of their classes: one table for all rooms.

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
# The task whose image the driver sees; a bundle without its prompt is refused.
DRIVERS_TASK = "perception"
LONG_NAMES = {short: long for long, short in SHORT_NAMES.items()}

# CamVid's 11 classes; a label pixel's value is the index, or UNLABELLED. Bundles name them in lower
# case.
SEGMENTATION_CLASSES = (
    "Sky",
    "Building",
    "Pole",
    "Road",
    "Pavement",
    "Tree",
    "SignSymbol",
    "Fence",
    "Car",
    "Pedestrian",
    "Bicyclist",
)
UNLABELLED = len(SEGMENTATION_CLASSES)
DETECTION_CLASSES = ("car", "pedestrian", "bicyclist", "sign")

Colour = tuple[int, int, int]
# RGB, 0 to 255, by the name in a bundle. Labels have CamVid's colours.
SEGMENTATION_COLOURS: dict[str, Colour] = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "signsymbol": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
DETECTION_COLOURS: dict[str, Colour] = {
    "car": (255, 160, 0),
    "pedestrian": (255, 64, 96),
    "bicyclist": (64, 200, 255),
    "sign": (160, 240, 64),
}
OTHER_COLOUR: Colour = (255, 255, 255)
"""For classes of a bundle that have none of these names."""

_SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def short_name(task: str) -> str:
    """Return a task's name in checkpoints: ``segmentation`` -> ``seg``; a user's task keeps its
    name."""
    return SHORT_NAMES.get(task, task)


def long_name(key: str) -> str:
    """Return a task's name in ROS and manifests: ``seg`` -> ``segmentation``."""
    return LONG_NAMES.get(key, key)


def check_task_name(name: str) -> str:
    """Return the name if it is snake_case, which every ROS topic accepts; else ValueError."""
    if not _SNAKE_CASE.fullmatch(name):
        raise ValueError(f"task name {name!r} is not snake_case: use letters a-z, digits and _")
    return name
