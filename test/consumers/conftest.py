"""Helpers of the ROS layer's tests, for the consumers'."""

from __future__ import annotations

import sys
from pathlib import Path

HELPERS = Path(__file__).parents[1] / "ros"
sys.path.insert(0, str(HELPERS))  # which import-mode importlib does not find
