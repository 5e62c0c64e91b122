"""The same frame gives the same bytes: in both processes, over restarts, and however often.

A still scene therefore changes nothing from frame to frame. On every backend that runs the shipped
bundle here; for `torch` see test/export.
"""

from __future__ import annotations

import pytest
from determinism import check_deterministic

from unirestore_ros.engine.backends import backends_here
from unirestore_ros.engine.bundle import find_bundle, read_bundle

HERE = [
    name
    for name, obstacle in backends_here(read_bundle(find_bundle("tiny"))).items()
    if obstacle is None
]


@pytest.mark.parametrize("size", [(480, 360), (1280, 720)])
@pytest.mark.parametrize("backend", HERE)
def test_the_same_frame_gives_the_same_bytes(backend: str, size: tuple[int, int]) -> None:
    check_deterministic("tiny", backend, size, ("segmentation", "detection"))
