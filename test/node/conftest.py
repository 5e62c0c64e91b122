"""Processes and nodes for tests of the ROS layer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ros_fixtures
from rclpy.context import Context
from ros_miniature import frame
from ros_process import NodeProcess
from ros_station import Station, image
from sensor_msgs.msg import Image

context = ros_fixtures.context
miniature = ros_fixtures.miniature
start_node = ros_fixtures.start_node


@pytest.fixture(scope="module")
def node(start_node: ros_fixtures.StartNode, miniature: Path) -> NodeProcess:
    """One active node for the checks of a module."""
    return start_node(f"bundle:={miniature}", *ros_fixtures.PATIENT)


@pytest.fixture(scope="module")
def first_frame() -> Image:
    """A frame of the size that the module's tests send, which the node gets ready for first."""
    return image(frame(), "rgb8")


@pytest.fixture(scope="module")
def modules_station(context: Context, node: NodeProcess, first_frame: Image) -> Iterator[Station]:
    """Kept for a module, because two ROS nodes take a second and more to discover each other."""
    station = Station(context, node.namespace)
    if station.state() == "active":
        station.restore_first(first_frame)
    yield station
    station.close()


@pytest.fixture
def station(modules_station: Station) -> Iterator[Station]:
    """A camera and subscribers for the module's node, none of them there yet."""
    yield modules_station
    modules_station.reset()
