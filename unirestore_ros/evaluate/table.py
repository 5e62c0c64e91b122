"""Rows of an evaluation, and the Markdown table of them by family of corruption."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from unirestore_ros.degrade.corruptions import FAMILIES, VALIDATION

Row = dict[str, Any]


def make_row(
    method: str,
    task: str | None,
    corruption: str | None,
    severity: int | None,
    scores: Sequence[Mapping[str, float]],
) -> Row:
    """Means over images. The machine's figures are null: this version does not measure them."""
    return {
        "method": method,
        "task": task,
        "corruption": corruption,
        "severity": severity,
        "images": len(scores),
        "psnr": round(float(np.mean([score["psnr"] for score in scores])), 3),
        "ssim": round(float(np.mean([score["ssim"] for score in scores])), 4),
        "miou": None,
        "map50": None,
        "top1": None,
    }


def markdown(rows: Iterable[Row]) -> str:
    """PSNR in dB for each corruption and the mean of each family, methods in columns."""
    rows = list(rows)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    cells = {(row["corruption"], row["method"]): row["psnr"] for row in rows}
    present = {row["corruption"] for row in rows}
    lines = [f"| corruption | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    families = {**FAMILIES, "validation": VALIDATION}
    for family, names in families.items():
        found = [name for name in names if name in present]
        lines += [_line(name, [cells.get((name, m)) for m in methods]) for name in found]
        if found:
            means = [_mean([cells.get((name, m)) for name in found]) for m in methods]
            lines.append(_line(f"**{family}, mean**", means))
    if None in present:
        lines.append(_line("none (clean)", [cells.get((None, m)) for m in methods]))
    return "\n".join(lines) + "\n"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _line(name: str, values: Sequence[float | None]) -> str:
    shown = ["" if value is None else f"{value:.2f}" for value in values]
    return f"| {name} | {' | '.join(shown)} |"
