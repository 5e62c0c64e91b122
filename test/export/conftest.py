"""Networks that several tests of the build export."""

from __future__ import annotations

from pathlib import Path

import pytest

from unirestore_ros.model import UniRestore
from unirestore_ros.model.published import from_released


@pytest.fixture(scope="module")
def narrow(shared_reference: Path) -> UniRestore:
    """The published architecture, narrow: attention, cross-attention, group norms."""
    parity = shared_reference / "parity"
    return from_released(
        sd_turbo=parity / "backbone",
        stage1=parity / "unirestore_stage1.ckpt",
        stage2=parity / "unirestore_stage2.ckpt",
        null_embedding=parity / "null_embedding.safetensors",
    )
