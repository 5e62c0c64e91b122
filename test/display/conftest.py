"""Nodes, frames and pages for tests of the display."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ros_fixtures
from display_drive import PATIENT, SIZE, Display
from display_page import TOKEN
from rclpy.context import Context
from ros_process import NodeProcess
from ros_station import Station

from unirestore_ros.display.server import PageServer

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


@pytest.fixture
def enabled() -> list[bool]:
    """What clients have asked for."""
    return []


@pytest.fixture
def server(enabled: list[bool]) -> Iterator[PageServer]:
    server = PageServer("127.0.0.1", 0, "", enabled.append)
    server.start()
    yield server
    server.check()
    server.stop()


@pytest.fixture
def guarded() -> Iterator[PageServer]:
    server = PageServer("127.0.0.1", 0, TOKEN, lambda _: None)
    server.start()
    yield server
    server.stop()
