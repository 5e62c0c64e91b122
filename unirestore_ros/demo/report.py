"""Report on a play: how near to the clean frames the restored ones are, rates and latencies.

Beside the restored frames stand those of the best classical method, which needs no network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from unirestore_ros.demo.record import Frames, Record, ShownFrame, features_topic
from unirestore_ros.evaluate.metrics import psnr
from unirestore_ros.msgs.rates import mean_rate
from unirestore_ros.recordings.images import swap_red_and_blue
from unirestore_ros.tables import text_table

Report = dict[str, Any]
Restorer = Callable[[np.ndarray], np.ndarray]
"""(H, W, 3) uint8 RGB -> the same, restored by a classical method."""

_TRIED_FRAMES = 3


@dataclasses.dataclass(frozen=True)
class StretchReport:
    """One stretch of the drive; its PSNRs, frame by frame, are of the frames that came out."""

    name: str
    frames_in: int
    frames_out: int
    classical_method: str | None
    psnr: tuple[tuple[float, float, float], ...]
    """Degraded, classical, restored."""

    def as_dict(self) -> Report:
        values = dataclasses.asdict(self)
        del values["psnr"]
        return {**values, "psnr_db": mean_psnr(self.psnr)}


def mean_psnr(rows: Sequence[tuple[float, float, float]]) -> dict[str, float | None]:
    """Average PSNR in dB over the frames, to two places; None where there are none."""
    means = [round(float(mean), 2) for mean in np.mean(rows, axis=0)] if rows else [None] * 3
    return dict(zip(("degraded", "classical", "restored"), means, strict=True))


def measure_stretch(
    frames: Frames,
    stretch: tuple[str, range],
    restored: Mapping[int, ShownFrame],
    classical: Mapping[str, Restorer],
    advance: Callable[[], object],
) -> StretchReport:
    """Measure a stretch's restored frames, given by index; ``advance`` is called after each."""
    name, indices = stretch
    out = [restored[index] for index in indices if index in restored]
    known = out if frames.bag.has_clean else []
    method = best_classical(frames, [shown.number for shown in known], classical)
    rows = []
    if method is not None:
        for shown in known:
            rows.append(_qualities(frames, shown, classical[method]))
            advance()
    return StretchReport(name, len(indices), len(out), method, tuple(rows))


def best_classical(
    frames: Frames, indices: Sequence[int], methods: Mapping[str, Restorer]
) -> str | None:
    """Find the method with the highest mean PSNR over a few of the frames, evenly spread."""
    if not indices:
        return None
    places = np.linspace(0, len(indices) - 1, min(_TRIED_FRAMES, len(indices)))
    tried = [indices[round(place)] for place in places]

    def mean(name: str) -> float:
        return float(np.mean([_classical_psnr(frames, index, methods[name]) for index in tried]))

    return max(methods, key=mean)


def _classical_psnr(frames: Frames, index: int, method: Restorer) -> float:
    return psnr(
        method(swap_red_and_blue(frames.camera(index))), swap_red_and_blue(frames.clean(index))
    )


def _qualities(frames: Frames, shown: ShownFrame, method: Restorer) -> tuple[float, float, float]:
    return (
        psnr(frames.camera(shown.number), frames.clean(shown.number)),
        _classical_psnr(frames, shown.number, method),
        psnr(frames.shown(shown), frames.clean(shown.number)),
    )


def make_report(record: Record, stretches: Sequence[StretchReport], about: Report) -> Report:
    """Make the contents of ``report.json``; ``about`` says what was played."""
    restored = record.restored
    return {
        "frames_in": len(record.played_ns),
        "frames_out": len(restored),
        "frames_camera": len(record.shown) - len(restored),
        "rate": _rounded(mean_rate(record.played_ns), 2),
        "fps": _rounded(mean_rate([shown.received_ns for shown in restored]), 2),
        "latency_ms": _percentiles([shown.latency_ms for shown in restored]),
        "backend": record.diagnostics.get("backend"),
        "bundle": record.diagnostics.get("bundle"),
        "psnr_db": mean_psnr([row for one in stretches for row in one.psnr]),
        "stretches": [stretch.as_dict() for stretch in stretches],
        "feature_topics": {
            features_topic(task): {
                "encoding": maps[0].encoding,
                "height": maps[0].height,
                "width": maps[0].width,
                "messages": len(maps),
            }
            for task, maps in record.features.items()
        },
        **about,
    }


def table(report: Report) -> str:
    """Write the report out for the terminal."""
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
    """Lay out name, three PSNRs and two counts, figures aligned to the right under ``head``."""
    figures = [_cell(value, ".2f") for value in row["psnr_db"].values()]
    figures += [str(row["frames_in"]), str(row["frames_out"])]
    widths = [max(len(title), 5) for title in head[1:]]
    return [name, *(figure.rjust(width) for figure, width in zip(figures, widths, strict=False))]


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _percentiles(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {"p50": None, "p99": None}
    return {f"p{share}": round(float(np.percentile(values, share)), 1) for share in (50, 99)}


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
