"""Parameters of every type and value, made by Hypothesis: accepted and within bounds, or refused.

Through rclpy's own checks and the node's callback, as `ros2 param set` goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rcl_interfaces.msg import SetParametersResult
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter

from unirestore_ros.display.parameters import DisplayParameters
from unirestore_ros.msgs.parameter_struct import NodeParameters, ParameterRefused
from unirestore_ros.node.parameters import Parameters

INTEGERS = st.integers(-(2**63), 2**63 - 1)
WORDS = st.sampled_from(["", "tiny", "auto", "raw", "reliable", "lane_marks", "../x", "\x00", "é"])
TEXTS = st.one_of(WORDS, st.text(max_size=40))
VALUES = st.one_of(
    st.booleans(),
    INTEGERS,
    st.floats(),
    TEXTS,
    st.lists(st.booleans(), min_size=1, max_size=4),
    st.lists(INTEGERS, min_size=1, max_size=4),
    st.lists(st.floats(), min_size=1, max_size=4),
    st.lists(TEXTS, min_size=1, max_size=4),
    st.lists(st.binary(min_size=1, max_size=1), min_size=1, max_size=4),
)


class Holder:
    """A node with the parameters of one struct, checked as the real nodes check them."""

    def __init__(self, context: Context, kind: type[NodeParameters]) -> None:
        self.node = Node(f"any_{kind.__name__.lower()}", context=context)
        kind.declare(self.node)
        self.settings = kind.read(self.node)
        self.node.add_on_set_parameters_callback(self._check)

    def _check(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            self.settings = self.settings.changed(changes)
        except ParameterRefused as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


@pytest.fixture(scope="module", params=[Parameters, DisplayParameters])
def holder(request: pytest.FixtureRequest, context: Context) -> Iterator[Holder]:
    holder = Holder(context, request.param)
    yield holder
    holder.node.destroy_node()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_value_is_refused_or_within_bounds(holder: Holder, data: st.DataObject) -> None:
    specs = holder.settings.specs()
    changes: dict[str, Any] = data.draw(
        st.dictionaries(st.sampled_from(sorted(specs)), VALUES, min_size=1, max_size=3)
    )
    given_values = [Parameter(name, value=value) for name, value in changes.items()]
    results = holder.node.set_parameters(given_values)
    for (name, value), result in zip(changes.items(), results, strict=True):
        if not result.successful:
            assert result.reason and "\n" not in result.reason.strip()
            continue
        spec, kept = specs[name], getattr(holder.settings, name)
        assert kept == (tuple(filter(None, value)) if isinstance(kept, tuple) else value)
        if spec.lowest is not None:
            assert spec.lowest <= kept <= spec.highest
        if spec.choices:
            assert kept in spec.choices
