"""Processes and nodes for tests of the ROS layer: the node is always in a process of its own."""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the helpers, which import-mode importlib does not find

from ros_miniature import write_miniature  # noqa: E402
from ros_process import PROFILE, NodeProcess  # noqa: E402
from ros_station import Station  # noqa: E402


@pytest.fixture(scope="session")
def context() -> Iterator[Context]:
    """ROS in the test's own process, apart from other tests' default context."""
    before = os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE")
    os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(PROFILE)
    context = Context()
    rclpy.init(args=[], context=context)
    yield context
    context.shutdown()
    if before is None:
        del os.environ["FASTDDS_DEFAULT_PROFILES_FILE"]
    else:
        os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = before


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a miniature bundle; not to be written to."""
    return write_miniature(tmp_path_factory.mktemp("engines") / "miniature")


StartNode = Callable[..., NodeProcess]


@pytest.fixture(scope="module")
def start_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartNode]:
    """Starts nodes, each in a namespace of its own unless one is named; ends them with the
    module."""
    logs = tmp_path_factory.mktemp("nodes")
    with contextlib.ExitStack() as endings:

        def start(*parameters: str, namespace: str | None = None, **environment: str):
            namespace = namespace or f"/n{uuid.uuid4().hex[:8]}"
            log = logs / f"{namespace[1:]}.log"
            node = NodeProcess(namespace, log, *parameters, **environment)
            endings.callback(node.end)
            return node

        yield start


@pytest.fixture(scope="module")
def node(start_node: StartNode, miniature: Path) -> NodeProcess:
    """One active node for the checks of a module. A frame may wait long on a busy machine."""
    return start_node(f"bundle:={miniature}", "max_age_ms:=10000", "fallback_after_ms:=30000")


@pytest.fixture
def station(context: Context, node: NodeProcess) -> Iterator[Station]:
    """A camera and listeners for the module's node."""
    station = Station(context, node.namespace)
    yield station
    station.close()
