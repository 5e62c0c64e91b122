"""ROS in the test's own process, for tests that send messages."""

from __future__ import annotations

import ros_fixtures

context = ros_fixtures.context
