"""The engine's bench on the shipped bundle: what is measured, not how fast it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unirestore_ros.bench.command import main


def test_rows_cover_the_parts_and_the_published_way(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    assert main(["--runs", "2", "--out", str(out)]) == 0
    content = json.loads(out.read_text())
    rows = {row["what"]: row for row in content["rows"]}
    parts = {"part/trunk", "part/decoder", "part/adapter"}
    assert set(rows) == parts | {"ours/3-outputs", "published/3-outputs"}
    assert all(row["runs"] == 2 and 0 < row["median_ms"] <= row["p99_ms"] for row in rows.values())
    assert rows["ours/3-outputs"]["backend"] == "onnxruntime"


def test_an_unknown_task_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    assert main(["--outputs", "juggling", "--out", str(out)]) == 1
    assert "no task 'juggling'" in capsys.readouterr().err
    assert not out.exists()
