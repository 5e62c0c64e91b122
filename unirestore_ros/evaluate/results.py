"""Rows of an evaluation, tables of them by family of corruption, and figures by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from unirestore_ros.evaluate.conditions import SHOWN_FAMILIES
from unirestore_ros.tables import markdown_table

Row = dict[str, Any]
TITLES = {
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "miou": "Segmentation, mIoU",
    "map50": "Detection, mAP50",
    "top1": "Classification, top-1",
}


def make_row(
    method: str,
    task: str | None,
    corruption: str | None,
    severity: int | None,
    scores: Sequence[Mapping[str, float]],
    machine: Mapping[str, float | None],
) -> Row:
    """Make a row of the JSON: means over images of ``scores`` (psnr, ssim); ``machine`` holds the
    task networks' figures over all images together (miou, map50, top1)."""
    return {
        "method": method,
        "task": task,
        "corruption": corruption,
        "severity": severity,
        "images": len(scores),
        "psnr": round(float(np.mean([score["psnr"] for score in scores])), 3),
        "ssim": round(float(np.mean([score["ssim"] for score in scores])), 4),
        **machine,
    }


def tables(rows: Iterable[Row]) -> str:
    """Make a Markdown table for each figure that was measured."""
    rows = list(rows)
    shown = [
        f"{title}\n\n{markdown(rows, figure)}"
        for figure, title in TITLES.items()
        if any(row[figure] is not None for row in rows)
    ]
    return "\n".join(shown)


def markdown(rows: Iterable[Row], figure: str) -> str:
    """Make a table of one figure: corruptions and the mean of each family in lines; methods, with
    the task whose prompt they used, in columns."""
    rows = list(rows)
    methods = list(dict.fromkeys(column(row) for row in rows))
    cells = {(row["corruption"], column(row)): row[figure] for row in rows}
    present = {row["corruption"] for row in rows}
    lines: list[list[str]] = []
    for family, names in SHOWN_FAMILIES.items():
        found = [name for name in names if name in present]
        lines += [_line(name, [cells.get((name, m)) for m in methods], figure) for name in found]
        if found:
            means = [_mean([cells.get((name, m)) for name in found]) for m in methods]
            lines.append(_line(f"**{family}, mean**", means, figure))
    if None in present:
        lines.append(_line("none (clean)", [cells.get((None, m)) for m in methods], figure))
    return markdown_table(("corruption", *methods), lines)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def column(row: Row) -> str:
    """Name a column by method and prompt: ``unirestore, segmentation``."""
    return row["method"] if row["task"] is None else f"{row['method']}, {row['task']}"


def _line(name: str, values: Sequence[float | None], figure: str) -> list[str]:
    digits = 2 if figure == "psnr" else 3
    return [name, *("" if value is None else f"{value:.{digits}f}" for value in values)]


class Results:
    """The figures of an evaluation's rows, by method, task (None: made without a prompt) and
    corruption (None: clean input)."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = {(row["method"], row["task"], row["corruption"]): row for row in rows}

    @property
    def methods(self) -> list[tuple[str, str | None]]:
        """List methods with their prompts, in the order in which they were measured."""
        return list(dict.fromkeys((method, task) for method, task, _ in self._rows))

    @property
    def corruptions(self) -> set[str]:
        return {name for _, _, name in self._rows if name is not None}

    def figure(
        self, figure: str, method: str, task: str | None, corruption: str | None
    ) -> float | None:
        row = self._rows.get((method, task, corruption))
        return None if row is None else row[figure]

    def mean(
        self, figure: str, method: str, task: str | None, names: Iterable[str]
    ) -> float | None:
        """Average over the corruptions; None where one of them was not measured."""
        values = [self.figure(figure, method, task, name) for name in names]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known and len(known) == len(values) else None

    def gain(
        self,
        figure: str,
        ours: tuple[str, str | None],
        other: tuple[str, str | None],
        names: Sequence[str],
    ) -> float | None:
        """Compute the mean difference of two methods over the corruptions; None where one is
        missing."""
        mine, theirs = (self.mean(figure, *method, names) for method in (ours, other))
        return None if mine is None or theirs is None else mine - theirs
