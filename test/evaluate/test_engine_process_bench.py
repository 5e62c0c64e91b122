"""The bench of the engine process, on a bundle that takes a moment."""

from __future__ import annotations

import json
from pathlib import Path

from ros_miniature import write_miniature

from unirestore_ros.evaluate.engine_process_bench import main


def test_both_ways_are_timed_and_agree(tmp_path: Path) -> None:
    bundle, out = write_miniature(tmp_path / "miniature"), tmp_path / "out.json"
    assert main(["--bundle", str(bundle), "--size", "64x48", "--runs", "2", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert rows and all(row["same_bytes"] and row["runs"] == 2 for row in rows)
    assert {"onnxruntime"} <= {row["backend"] for row in rows}


def test_a_bundle_that_is_not_there(tmp_path: Path) -> None:
    assert main(["--bundle", str(tmp_path / "none"), "--out", str(tmp_path / "out.json")]) == 1
