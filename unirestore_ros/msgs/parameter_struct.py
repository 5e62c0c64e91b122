"""A node's parameters as one typed struct, from which they are declared, checked and read.

    @dataclasses.dataclass(frozen=True)
    class Parameters(NodeParameters):
        max_age_ms: int = parameter(500, "What it means", Change.AT_ONCE, unit="ms", lowest=1, ...)

This knows nothing of what a parameter does: the node applies a change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from enum import Enum
from typing import Any, TypeVar

from rcl_interfaces.msg import IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter


class ParameterRefused(ValueError):
    """A value is not accepted; the text says why."""


class Change(Enum):
    """When a changed value takes effect."""

    AT_ONCE = "takes effect at once"
    AT_RELOAD = "takes effect at the next configure or ~/reload"
    AT_CONFIGURE = "changes only while unconfigured"
    AT_START = "read-only: set when the node starts"


@dataclasses.dataclass(frozen=True)
class ParameterSpec:
    """The meaning of a parameter and the values that are accepted."""

    description: str
    change: Change
    unit: str = ""
    lowest: int | None = None
    highest: int | None = None
    choices: tuple[str, ...] = ()

    @property
    def constraint(self) -> str:
        """Say which values are accepted; empty where the type allows any."""
        if self.choices:
            may_be_empty = "empty or " if "" in self.choices else ""
            return f"{may_be_empty}one of " + ", ".join(filter(None, self.choices))
        if self.lowest is not None:
            return f"{self.lowest} to {self.highest}" + (f" {self.unit}" if self.unit else "")
        return ""

    def check(self, name: str, value: Any) -> None:
        """Raise ParameterRefused, with the reason, where the value is not accepted."""
        if self.choices and value not in self.choices:
            raise ParameterRefused(f"{name}: {value!r} is not {self.constraint}")
        if self.lowest is not None and not self.lowest <= value <= (self.highest or 0):
            raise ParameterRefused(f"{name}: {value} is not in {self.constraint}")

    def descriptor(self) -> ParameterDescriptor:
        descriptor = ParameterDescriptor(
            description=self.description + (f" [{self.unit}]" if self.unit else ""),
            additional_constraints="; ".join(filter(None, (self.constraint, self.change.value))),
            read_only=self.change is Change.AT_START,
        )
        if self.lowest is not None:
            descriptor.integer_range = [
                IntegerRange(from_value=self.lowest, to_value=self.highest, step=1)
            ]
        return descriptor


def parameter(default: Any, *description: Any, **more: Any) -> Any:
    """Define a field of a struct: its default, then the arguments of its `ParameterSpec`."""
    return dataclasses.field(
        default=default, metadata={"spec": ParameterSpec(*description, **more)}
    )


Self = TypeVar("Self", bound="NodeParameters")


@dataclasses.dataclass(frozen=True)
class NodeParameters:
    """The values at one moment. Lists are tuples here. ROS cannot read an empty list, so that one
    empty string stands for it."""

    def check(self) -> None:
        """For subclasses: raise ParameterRefused where values do not go together."""

    @classmethod
    def specs(cls) -> dict[str, ParameterSpec]:
        return {field.name: field.metadata["spec"] for field in dataclasses.fields(cls)}

    @classmethod
    def declare(cls, node: Node) -> None:
        """Declare all with their descriptors, by which ROS checks what a launch file sets."""
        for field in dataclasses.fields(cls):
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            node.declare_parameter(field.name, default, field.metadata["spec"].descriptor())

    @classmethod
    def read(cls: type[Self], node: Node) -> Self:
        """Read the declared values; ParameterRefused where one is not accepted."""
        return cls().changed(node.get_parameters(list(cls.specs())))

    def changed(self: Self, changes: Iterable[Parameter]) -> Self:
        """Return a copy with the changes, without those to parameters that are not in the struct;
        ParameterRefused where one is not accepted."""
        specs = self.specs()
        values = {change.name: change.value for change in changes if change.name in specs}
        for name, value in values.items():
            specs[name].check(name, value)
            if isinstance(getattr(self, name), tuple):
                values[name] = tuple(filter(None, value))
        after = dataclasses.replace(self, **values)
        after.check()
        return after

    def differing(self: Self, after: Self, change: Change) -> list[str]:
        """Return the names of parameters that differ, among those whose changes take effect so."""
        return [
            name
            for name, spec in self.specs().items()
            if spec.change is change and getattr(self, name) != getattr(after, name)
        ]
