"""The engine's bench on the shipped bundle: what is measured, not how fast it is."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from unirestore_ros.engine.backends import backends_here
from unirestore_ros.engine.bundle import find_bundle, read_bundle
from unirestore_ros.evaluate.bench_command import main


def test_rows_cover_the_parts_on_every_backend_and_the_published_way(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    assert main(["--runs", "2", "--out", str(out)]) == 0
    content = json.loads(out.read_text())
    rows = {(row["what"], row["backend"]): row for row in content["rows"]}
    known = backends_here(read_bundle(find_bundle("tiny")))
    here = [name for name, obstacle in known.items() if obstacle is None]
    assert "onnxruntime" in here
    ours = ("ours/3-outputs", "part/trunk", "part/decoder", "part/adapter")
    assert set(rows) == {("published/3-outputs", "torch"), *itertools.product(ours, here)}
    assert all(row["runs"] == 2 and 0 < row["median_ms"] <= row["p99_ms"] for row in rows.values())
    assert "psnr_to_fp32_db" not in rows["ours/3-outputs", "onnxruntime"]
    if "openvino" in here:
        row = rows["ours/3-outputs", "openvino"]
        if row["precision"] == "bf16":
            assert 45 < min(row["psnr_to_fp32_db"].values()) < 90


def test_an_unknown_task_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    assert main(["--outputs", "juggling", "--out", str(out)]) == 1
    assert "no task 'juggling'" in capsys.readouterr().err
    assert not out.exists()
