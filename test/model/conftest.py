"""Published files that the tests make, and a server on this host that serves and cuts them off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch_threads
from cutting_server import CuttingServer
from published_files import Published, write_published

from unirestore_ros.model import UniRestore

one_thread = torch_threads.one_thread


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Published, UniRestore]:
    return write_published(tmp_path_factory.mktemp("published") / "files")


@pytest.fixture
def server(original: tuple[Published, UniRestore]) -> Iterator[CuttingServer]:
    with CuttingServer(original[0].stage1.parent) as server:
        yield server
