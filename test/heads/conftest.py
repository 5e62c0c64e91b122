"""Nodes and bundles for tests of the heads."""

from __future__ import annotations

import ros_fixtures

context = ros_fixtures.context
miniature = ros_fixtures.miniature
start_node = ros_fixtures.start_node
