"""The node's parameters: one typed struct, from which they are declared, checked and read.

Declaring, checking and reading know nothing of what a parameter does; who applies a change is the
node.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from enum import Enum
from typing import Any

from rcl_interfaces.msg import IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from unirestore_ros.tasks import check_task_name


class ParameterRefused(ValueError):
    """A value that is not accepted, and why."""


class Change(Enum):
    """When a changed value takes effect."""

    AT_ONCE = "takes effect at once"
    AT_RELOAD = "takes effect at the next configure or ~/reload"
    AT_CONFIGURE = "changes only while unconfigured"
    AT_START = "read-only: set when the node starts"


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a value means and which are accepted."""

    description: str
    change: Change
    unit: str = ""
    lowest: int | None = None
    highest: int | None = None
    choices: tuple[str, ...] = ()

    @property
    def constraint(self) -> str:
        """The accepted values, in words; empty where any of the type will do."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.lowest is not None:
            return f"{self.lowest} to {self.highest}" + (f" {self.unit}" if self.unit else "")
        return ""


def _parameter(default: Any, *description: Any, **more: Any) -> Any:
    return dataclasses.field(default=default, metadata={"spec": Spec(*description, **more)})


@dataclasses.dataclass(frozen=True)
class Parameters:
    """Values of one moment."""

    bundle: str = _parameter(
        "tiny", "Folder of the engine bundle, or the name of a shipped one", Change.AT_RELOAD
    )
    backend: str = _parameter(
        "auto",
        "What runs the network; auto takes the first of the others that the bundle holds and"
        " that runs here",
        Change.AT_RELOAD,
        choices=("auto", "tensorrt", "torch", "onnxruntime"),
    )
    device_id: int = _parameter(
        0, "Number of the CUDA device", Change.AT_RELOAD, lowest=0, highest=63
    )
    threads: int = _parameter(
        0,
        "CPU threads of the network; 0: one for each physical core",
        Change.AT_RELOAD,
        lowest=0,
        highest=256,
    )
    tasks: tuple[str, ...] = _parameter(
        ("segmentation", "detection"),
        "Tasks of the bundle that get topics of their own: ~/TASK/features and its camera_info;"
        " for none, one empty name, since ROS reads no empty list",
        Change.AT_CONFIGURE,
    )
    publish_task_images: bool = _parameter(
        True,
        "Whether each task also gets ~/TASK/image, decoded with its prompt",
        Change.AT_CONFIGURE,
    )
    input_transport: str = _parameter(
        "raw",
        "Which topic of the camera is subscribed: image, or image/compressed",
        Change.AT_CONFIGURE,
        choices=("raw", "compressed"),
    )
    input_reliability: str = _parameter(
        "auto",
        "QoS of the camera's topics; auto: reliable if every publisher offers it, else best effort",
        Change.AT_CONFIGURE,
        choices=("auto", "reliable", "best_effort"),
    )
    output_reliability: str = _parameter(
        "reliable",
        "QoS that the node's topics offer; depth 1 and volatile in any case",
        Change.AT_CONFIGURE,
        choices=("reliable", "best_effort"),
    )
    max_age_ms: int = _parameter(
        500,
        "A frame older than this when its turn comes is dropped",
        Change.AT_ONCE,
        unit="ms",
        lowest=1,
        highest=10000,
    )
    fallback_after_ms: int = _parameter(
        500,
        "Input without any output for this long puts the driver's picture into camera mode",
        Change.AT_ONCE,
        unit="ms",
        lowest=10,
        highest=60000,
    )
    jpeg_quality: int = _parameter(
        90, "Quality of ~/image/compressed", Change.AT_ONCE, unit="%", lowest=1, highest=100
    )
    enabled: bool = _parameter(
        True, "Off: camera mode, nothing is restored; as ~/set_enabled", Change.AT_ONCE
    )
    autostart: bool = _parameter(
        True,
        "Whether the node configures and activates itself; launch files that manage its"
        " transitions say false",
        Change.AT_START,
    )


SPECS: dict[str, Spec] = {
    field.name: field.metadata["spec"] for field in dataclasses.fields(Parameters)
}


def declare(node: Node) -> None:
    """Declare all with their descriptors; what a launch file overrides is checked by ROS."""
    for field in dataclasses.fields(Parameters):
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        node.declare_parameter(field.name, default, _descriptor(SPECS[field.name]))


def read(node: Node) -> Parameters:
    """The declared values; ParameterRefused, with the reason, where one is not accepted."""
    return checked(node.get_parameters(list(SPECS)))


def checked(changes: Iterable[Parameter], onto: Parameters | None = None) -> Parameters:
    """``onto`` with the changes made, those to others' parameters left out; ParameterRefused, with
    the reason, where one is not accepted."""
    values = {change.name: change.value for change in changes if change.name in SPECS}
    for name, value in values.items():
        _check(name, value)
    if "tasks" in values:
        values["tasks"] = tuple(filter(None, values["tasks"]))
    return dataclasses.replace(onto or Parameters(), **values)


def fixed_while_configured(before: Parameters, after: Parameters) -> list[str]:
    """Names of what differs and may not, once topics are up."""
    return [
        name
        for name, spec in SPECS.items()
        if spec.change is Change.AT_CONFIGURE and getattr(before, name) != getattr(after, name)
    ]


def _descriptor(spec: Spec) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        description=spec.description + (f" [{spec.unit}]" if spec.unit else ""),
        additional_constraints="; ".join(filter(None, (spec.constraint, spec.change.value))),
        read_only=spec.change is Change.AT_START,
    )
    if spec.lowest is not None:
        descriptor.integer_range = [
            IntegerRange(from_value=spec.lowest, to_value=spec.highest, step=1)
        ]
    return descriptor


def _check(name: str, value: Any) -> None:
    spec = SPECS[name]
    if spec.choices and value not in spec.choices:
        raise ParameterRefused(f"{name}: {value!r} is not {spec.constraint}")
    if spec.lowest is not None and not spec.lowest <= value <= spec.highest:
        raise ParameterRefused(f"{name}: {value} is not in {spec.constraint}")
    if name == "bundle" and not value:
        raise ParameterRefused("bundle: name a folder, or a shipped bundle such as tiny")
    if name == "tasks":
        _check_tasks(value)


def _check_tasks(tasks: Iterable[str]) -> None:
    seen: set[str] = set()
    for task in filter(None, tasks):
        try:
            check_task_name(task)
        except ValueError as error:
            raise ParameterRefused(f"tasks: {error}") from error
        if task in seen:
            raise ParameterRefused(f"tasks: {task} stands twice")
        seen.add(task)
