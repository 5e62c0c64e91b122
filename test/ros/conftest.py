"""Processes and nodes for tests of the ROS layer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rclpy.context import Context

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the helpers, which import-mode importlib does not find

import ros_fixtures  # noqa: E402
from ros_process import NodeProcess  # noqa: E402
from ros_station import Station  # noqa: E402

context = ros_fixtures.context
miniature = ros_fixtures.miniature
start_node = ros_fixtures.start_node


@pytest.fixture(scope="module")
def node(start_node: ros_fixtures.StartNode, miniature: Path) -> NodeProcess:
    """One active node for the checks of a module. A frame may wait long on a busy machine."""
    return start_node(f"bundle:={miniature}", "max_age_ms:=10000", "fallback_after_ms:=30000")


@pytest.fixture
def station(context: Context, node: NodeProcess) -> Iterator[Station]:
    """A camera and listeners for the module's node."""
    station = Station(context, node.namespace)
    yield station
    station.close()
