"""The fault table of docs/safety.md, row by row, with real processes: one node for all rows.

Here in a short form, on a bundle that takes a moment, without the rows of the engine's own faults
(test_node_faults.py). With UNIRESTORE_FAULTS=long every row, on the shipped bundle: six minutes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from unirestore_ros.evaluate import soak
from unirestore_ros.evaluate.soak_faults import FAULTS

pytestmark = pytest.mark.dds

LONG = os.environ.get("UNIRESTORE_FAULTS") == "long"
# Rows that take long, or that other tests hold: engine, bundle and namesakes.
SHORT = (
    "camera: stopped",
    "camera: frozen",
    "camera: clock 1000 s behind",
    "camera: clock 5 s ahead",
    "camera: sizes alternate",
    "camera: short data",
    "node: disabled",
    "node: kill -9",
    "node: SIGSTOP",
    "node: random transitions",
    "node: parameters of every type",
    "display: kill -9",
)
ROWS = [fault.name for fault in FAULTS if LONG or fault.name in SHORT]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, miniature: Path) -> dict[str, Any]:
    """What a soak writes that plants each of the rows once."""
    out = tmp_path_factory.mktemp("soak")
    options = ["--once", "--minutes", "0", "--out", str(out)]
    if not LONG:
        # The miniature makes negatives, which the guard would refuse.
        options += ["--bundle", str(miniature), "--parameter", "guard:=false"]
        options += ["--parameter", "max_age_ms:=5000"]
        options += [word for name in ROWS for word in ("--only", name)]
    soak.main(options)
    found: dict[str, Any] = json.loads((out / "soak.json").read_text())
    return found


@pytest.mark.parametrize("name", ROWS)
def test_the_image_comes_back(result: dict[str, Any], name: str) -> None:
    (row,) = [row for row in result["rows"] if row["fault"] == name]
    assert row["survived"] == 1, row["failures"]


def test_no_image_is_wrong_or_under_the_wrong_sign(result: dict[str, Any]) -> None:
    assert result["wrong_images"] == []
    assert result["images"] > 0 and result["images_of_the_display_judged"] > 0


def test_nothing_ends_by_itself(result: dict[str, Any]) -> None:
    assert result["crashes"] == []
    assert result["tracebacks"] == 0
