"""Faults that are planted for the soak and the fault suite."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from unirestore_ros.evaluate.engine_faults import EngineFaults


def test_faults_are_planted_into_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module in place of one that is missing would be taken for it."""
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "openvino" else object()
    )
    EngineFaults(tmp_path)
    assert sorted(path.stem for path in tmp_path.glob("o*.py")) == ["onnxruntime"]
