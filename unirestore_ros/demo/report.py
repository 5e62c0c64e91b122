"""The report of a demonstration: as JSON for scripts, as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unirestore_ros.demo.quality import StretchReport, mean_quality
from unirestore_ros.demo.record import Record
from unirestore_ros.msgs.rates import mean_rate
from unirestore_ros.tables import text_table

Report = dict[str, Any]


def make_report(
    record: Record, stretches: Sequence[StretchReport], topics: dict[str, str], about: Report
) -> Report:
    """The contents of ``report.json``; ``topics`` names the feature topic of each task, ``about``
    says what was played."""
    restored = record.restored
    return {
        "frames_in": len(record.played_ns),
        "frames_out": len(restored),
        "frames_camera": len(record.shown) - len(restored),
        "rate": rounded(mean_rate(record.played_ns), 2),
        "fps": rounded(mean_rate([shown.received_ns for shown in restored]), 2),
        "latency_ms": _percentiles([shown.latency_ms for shown in restored]),
        "backend": record.diagnostics.get("backend"),
        "bundle": record.diagnostics.get("bundle"),
        "psnr_db": mean_quality([row for one in stretches for row in one.psnr]).as_dict(),
        "stretches": [stretch.as_dict() for stretch in stretches],
        "feature_topics": {
            topics[task]: {
                "encoding": topic.encoding,
                "height": topic.height,
                "width": topic.width,
                "messages": topic.messages,
            }
            for task, topic in record.features.items()
        },
        **about,
    }


def rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def table(report: Report) -> str:
    """The report for the terminal."""
    latency = report["latency_ms"]
    lines = [
        f"played     {report['frames_in']} frames",
        f"restored   {report['frames_out']} frames at {_cell(report['fps'], '.1f')} frames/s, "
        f"latency {_cell(latency['p50'], '.0f')} ms median, {_cell(latency['p99'], '.0f')} ms p99",
        f"bundle     {report['bundle']} on {report['backend']}",
    ]
    for topic, form in report["feature_topics"].items():
        shape = f"{form['width']}x{form['height']}"
        lines.append(f"features   {topic}: {form['messages']} of {shape} {form['encoding']}")
    return "\n".join([*lines, "", _stretch_table(report)])


def _stretch_table(report: Report) -> str:
    head = ("PSNR, dB", "degraded", "classical", "restored", "in", "out", "classical is")
    rows = [_stretch_row(row["name"], row, head) for row in report["stretches"]]
    rows = [
        [*row, one["classical_method"]] for row, one in zip(rows, report["stretches"], strict=True)
    ]
    return text_table(head, [*rows, [*_stretch_row("all", report, head), ""]])


def _stretch_row(name: str, row: Report, head: Sequence[str]) -> list[str]:
    """Name, three PSNRs and two counts, the figures aligned to the right under ``head``."""
    figures = [_cell(value, ".2f") for value in row["psnr_db"].values()]
    figures += [str(row["frames_in"]), str(row["frames_out"])]
    widths = [max(len(title), 5) for title in head[1:]]
    return [name, *(figure.rjust(width) for figure, width in zip(figures, widths, strict=False))]


def _percentiles(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {"p50": None, "p99": None}
    return {f"p{share}": round(float(np.percentile(values, share)), 1) for share in (50, 99)}


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
