"""A copy of the checkout, for tests that build it: nothing is written into the checkout itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

# At the top only: unirestore_ros/export is a part of the package.
MADE_HERE = {".git", ".venv", "out", "build", "install", "log"}


@pytest.fixture(scope="session")
def copy_checkout(repository: Path) -> Callable[[Path], None]:
    """Copies what the repository holds, tracked or not yet, to a folder."""
    caches = shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info")

    def left_out(folder: str, names: list[str]) -> set[str]:
        at_the_top = MADE_HERE if Path(folder) == repository else set()
        return caches(folder, names) | (at_the_top & set(names))

    def copy(target: Path) -> None:
        shutil.copytree(repository, target, ignore=left_out)

    return copy
