"""Nodes, frames and pages for tests of the display."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ros_fixtures
from display_drive import PATIENT, SIZE, Display
from rclpy.context import Context
from ros_process import NodeProcess
from ros_station import Station

context = ros_fixtures.context
miniature = ros_fixtures.miniature
start_node = ros_fixtures.start_node


@pytest.fixture(scope="module")
def display_of(
    start_node: Callable[..., NodeProcess], miniature: Path, context: Context
) -> Iterator[Callable[..., Display]]:
    stations: list[Station] = []

    def make(*parameters: str) -> Display:
        restorer = start_node(f"bundle:={miniature}", *PATIENT)
        more = (f"output_width:={SIZE[0]}", f"output_height:={SIZE[1]}", "page_port:=0")
        display = start_node(
            *parameters, *more, namespace=restorer.namespace, command="driver_display"
        )
        station = Station(context, restorer.namespace)
        stations.append(station)
        return Display(station, display, restorer)

    yield make
    for station in stations:
        station.close()
