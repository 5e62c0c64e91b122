"""Published files that the tests make, and a server on this host that serves and cuts them off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from cutting_server import CuttingServer
from published_files import Published, write_published

from unirestore_ros.model import UniRestore


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: layers this narrow only wait for a second one, long on a loaded machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Published, UniRestore]:
    return write_published(tmp_path_factory.mktemp("published") / "files")


@pytest.fixture
def server(original: tuple[Published, UniRestore]) -> Iterator[CuttingServer]:
    with CuttingServer(original[0].stage1.parent) as server:
        yield server
