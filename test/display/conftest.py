"""Nodes, frames and pages for tests of the display."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
# The helpers, which import-mode importlib does not find.
sys.path[:0] = [str(HERE), str(HERE.parent / "ros")]

import ros_fixtures  # noqa: E402

context = ros_fixtures.context
miniature = ros_fixtures.miniature
start_node = ros_fixtures.start_node
