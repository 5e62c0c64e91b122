"""What the tests of `bag` share."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx  # noqa: F401  this folder is left out where it is missing, or rosbags
import pytest
import rosbags  # noqa: F401

# Helpers, which import-mode importlib misses: bag_maker, and the miniature bundle of the node's.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "ros")]

from ros_miniature import write_miniature  # noqa: E402


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle of 64x48, whose results are known; not to be written to."""
    return write_miniature(tmp_path_factory.mktemp("engines") / "miniature")
