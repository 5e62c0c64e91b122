"""Parameters: one struct, declared and checked; the file that documents them agrees with it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rcl_interfaces.msg import ParameterType
from rclpy.context import Context
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_parameter_file import check_agrees

from unirestore_ros.msgs.parameter_struct import Change, ParameterRefused
from unirestore_ros.node.parameters import Parameters, fixed_while_configured

SPECS = Parameters.specs()

TYPES = {
    bool: ParameterType.PARAMETER_BOOL,
    int: ParameterType.PARAMETER_INTEGER,
    str: ParameterType.PARAMETER_STRING,
    tuple: ParameterType.PARAMETER_STRING_ARRAY,
}


@pytest.fixture
def node(context: Context) -> Iterator[Node]:
    node = Node("parameters", context=context)
    yield node
    node.destroy_node()


def change(**values: Any) -> list[Parameter]:
    return [Parameter(name, value=value) for name, value in values.items()]


def test_the_contracts_parameters() -> None:
    assert set(SPECS) == {
        "bundle",
        "backend",
        "device_id",
        "tasks",
        "publish_task_images",
        "input_transport",
        "input_reliability",
        "assume_encoding",
        "output_reliability",
        "max_age_ms",
        "fallback_after_ms",
        "jpeg_quality",
        "hang_after_ms",
        "load_timeout_s",
        "engine_memory_limit_mb",
        "guard",
        "enabled",
        "autostart",
        "threads",
    }
    defaults = Parameters()
    assert (defaults.max_age_ms, defaults.fallback_after_ms, defaults.autostart) == (500, 500, True)


def test_declared_with_descriptors(node: Node) -> None:
    Parameters.declare(node)
    for field in dataclasses.fields(Parameters):
        spec, descriptor = SPECS[field.name], node.describe_parameter(field.name)
        assert descriptor.type == TYPES[type(field.default)]
        assert descriptor.description.startswith(spec.description)
        assert spec.unit in descriptor.description
        assert spec.change.value in descriptor.additional_constraints
        assert descriptor.read_only == (spec.change is Change.AT_START)
        for limits in descriptor.integer_range:
            assert (limits.from_value, limits.to_value) == (spec.lowest, spec.highest)
        assert bool(descriptor.integer_range) == isinstance(field.default, int) - isinstance(
            field.default, bool
        )


def test_defaults_are_read_back(node: Node) -> None:
    Parameters.declare(node)
    assert Parameters.read(node) == Parameters()


def test_wrong_values_at_the_start_are_refused(context: Context) -> None:
    for override in change(jpeg_quality=0) + change(max_age_ms="soon"):
        node = Node("parameters", context=context, parameter_overrides=[override])
        with pytest.raises(ParameterException, match=override.name):
            Parameters.declare(node)
        node.destroy_node()
    node = Node("parameters", context=context, parameter_overrides=change(backend="abacus"))
    Parameters.declare(node)
    with pytest.raises(ParameterRefused, match="backend: 'abacus' is not one of auto, tensorrt"):
        Parameters.read(node)
    node.destroy_node()


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (
            {"backend": "abacus"},
            "backend: 'abacus' is not one of auto, tensorrt, tensorrt_rtx, torch, onnx",
        ),
        ({"input_transport": "theora"}, "input_transport: 'theora' is not one of raw, compressed"),
        ({"assume_encoding": "mono16"}, "assume_encoding: 'mono16' is not empty or one of rgb8"),
        ({"input_reliability": "sure"}, "input_reliability: 'sure' is not one of auto, reliable"),
        ({"output_reliability": "auto"}, "output_reliability: 'auto' is not one of reliable"),
        ({"max_age_ms": 0}, "max_age_ms: 0 is not in 1 to 10000 ms"),
        ({"fallback_after_ms": 60001}, "fallback_after_ms: 60001 is not in 10 to 60000 ms"),
        ({"jpeg_quality": 101}, "jpeg_quality: 101 is not in 1 to 100 %"),
        ({"threads": -1}, "threads: -1 is not in 0 to 256"),
        ({"device_id": 64}, "device_id: 64 is not in 0 to 63"),
        ({"bundle": ""}, "bundle: name a folder"),
        ({"tasks": ["segmentation", "Lane Marks"]}, "tasks: task name 'Lane Marks' is not snake"),
        ({"tasks": ["detection", "detection"]}, "tasks: detection stands twice"),
        ({"jpeg_quality": 50, "threads": 1000}, "threads: 1000"),
    ],
)
def test_refused_with_a_reason(values: dict[str, Any], why: str) -> None:
    with pytest.raises(ParameterRefused, match=re.escape(why)):
        Parameters().changed(change(**values))


def test_accepted_changes_are_made_on_a_copy() -> None:
    before = Parameters()
    after = before.changed(change(tasks=["lane_marks"], jpeg_quality=50, use_sim_time=True))
    assert after == dataclasses.replace(before, tasks=("lane_marks",), jpeg_quality=50)
    assert before == Parameters()


def test_no_tasks() -> None:
    assert Parameters().changed(change(tasks=[""])).tasks == ()


def test_what_is_fixed_while_configured() -> None:
    after = Parameters().changed(change(tasks=["lane_marks"], jpeg_quality=50, bundle="other"))
    assert fixed_while_configured(Parameters(), after) == ["tasks"]


def test_the_file_agrees_with_the_code(repository: Path) -> None:
    check_agrees(repository / "config" / "unirestore.yaml", Parameters())
