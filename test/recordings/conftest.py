"""What the tests of `bag` share."""

from __future__ import annotations

from pathlib import Path

import onnx  # noqa: F401  this folder is left out where it is missing, or rosbags
import pytest
import rosbags  # noqa: F401
from ros_miniature import write_miniature


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle of 64x48, whose results are known; not to be written to."""
    return write_miniature(tmp_path_factory.mktemp("engines") / "miniature")
