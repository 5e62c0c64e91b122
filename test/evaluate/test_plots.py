"""Figures of an evaluation's rows, and the plots that are drawn of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unirestore_ros.evaluate.plots import plot_gains, plot_two_tasks
from unirestore_ros.evaluate.results import Results
from unirestore_ros.synthetic.corruptions import FAMILIES, VALIDATION

GAINS = {"noise": 7.0, "light": 4.0, "blur": 0.4}
TASKS = ("perception", "segmentation", "detection", "classification")
DEGRADED, OURS = ("degraded", None), ("unirestore", "perception")
Row = dict[str, Any]


def row(method: str, task: str | None, corruption: str | None, psnr: float, seen: float) -> Row:
    severity = None if corruption is None else 3
    machine = {"miou": seen, "map50": seen, "top1": seen}
    return {"method": method, "task": task, "corruption": corruption, "severity": severity,
            "images": 8, "psnr": psnr, "ssim": 0.5, **machine}  # fmt: skip


@pytest.fixture
def rows() -> list[Row]:
    rows = [row("clean", None, None, 100, 0.6)]
    rows += [row("unirestore", task, None, 35, 0.58) for task in TASKS]
    for family, names in FAMILIES.items():
        for name in names:
            rows.append(row("degraded", None, name, 15, 0.3))
            rows.append(row("classical", None, name, 15.5, 0.3))
            rows += [row("unirestore", task, name, 15 + GAINS[family], 0.45) for task in TASKS]
    return rows


def test_figures_are_found_by_name_and_nothing_is_made_up(rows: list[Row]) -> None:
    results = Results(rows)
    assert results.methods[:2] == [("clean", None), OURS]
    assert results.figure("psnr", *OURS, None) == 35
    assert results.mean("psnr", *OURS, FAMILIES["noise"]) == 22
    assert results.gain("psnr", OURS, DEGRADED, FAMILIES["light"]) == 4
    assert results.mean("psnr", *OURS, [*FAMILIES["noise"], *VALIDATION]) is None
    assert results.gain("psnr", OURS, ("nafnet", None), FAMILIES["noise"]) is None


def test_plots_are_drawn_where_there_is_something_to_show(rows: list[Row], tmp_path: Path) -> None:
    assert plot_gains(Results(rows), tmp_path / "gain.png")
    assert plot_two_tasks(Results(rows), tmp_path / "two.png")
    assert (tmp_path / "gain.png").stat().st_size > 5000
    unseen = Results([{**one, "miou": None, "top1": None} for one in rows])
    assert not plot_two_tasks(unseen, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
