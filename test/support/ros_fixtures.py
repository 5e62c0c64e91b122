"""Fixtures of tests that talk to nodes: a node is always in a process of its own."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from rclpy.context import Context
from ros_miniature import write_miniature
from ros_process import PROFILE, NodeProcess

from unirestore_ros.msgs.transport import profile_variable

PATIENT = ("max_age_ms:=10000", "fallback_after_ms:=30000", "hang_after_ms:=60000")
"""Parameters of a node on a machine that is busy: no frame is too late, no engine hangs."""


@pytest.fixture(scope="session")
def context() -> Iterator[Context]:
    """ROS in the test's own process, apart from other tests' default context."""
    variable = profile_variable()
    before = os.environ.get(variable)
    os.environ[variable] = str(PROFILE)
    context = Context()
    rclpy.init(args=[], context=context)
    yield context
    context.shutdown()
    if before is None:
        del os.environ[variable]
    else:
        os.environ[variable] = before


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

        def start(*parameters: str, namespace: str | None = None, **more: Any) -> Any:
            namespace = namespace or f"/n{uuid.uuid4().hex[:8]}"
            log = logs / f"{namespace[1:]}_{len(list(logs.iterdir()))}.log"
            node = NodeProcess(namespace, log, *parameters, **more)
            endings.callback(node.end)
            return node

        yield start
