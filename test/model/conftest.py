"""Published files that the tests make for themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # helpers, which importlib mode does not find


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """For layers this narrow a second thread is only waited for, long on a loaded machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
