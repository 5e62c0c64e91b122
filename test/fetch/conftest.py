"""Published files that the tests make, and a server on this host that serves and cuts them off."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The helpers, which import-mode importlib does not find.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from cutting_server import CuttingServer  # noqa: E402
from published_files import Published, write_published  # noqa: E402

from unirestore_ros.model import UniRestore  # noqa: E402


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Published, UniRestore]:
    return write_published(tmp_path_factory.mktemp("published") / "files")


@pytest.fixture
def server(original: tuple[Published, UniRestore]) -> Iterator[CuttingServer]:
    with CuttingServer(original[0].stage1.parent) as server:
        yield server
