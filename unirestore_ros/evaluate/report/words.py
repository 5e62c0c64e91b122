"""Figures as they stand in a sentence or a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unirestore_ros.evaluate.report.results import Sure

TITLES = {"psnr": "PSNR", "miou": "mIoU", "map50": "mAP50", "top1": "top-1"}


def decibels(value: float) -> str:
    return f"{value:.2f} dB"


def signed_db(value: float) -> str:
    return f"{value:+.2f} dB"


def points(value: float) -> str:
    """A fraction as points: hundredths."""
    return f"{100 * value:.1f} point" + ("" if abs(100 * value) == 1 else "s")


def signed_points(value: float) -> str:
    return f"{100 * value:+.2f} points"


def span(found: Sure, figure: str = "miou") -> str:
    """``+4.50 (+3.90 to +5.00) points``: the difference and its interval."""
    scale, unit = (1, "dB") if figure == "psnr" else (100, "points")
    low, high = scale * found.low, scale * found.high
    return f"{scale * found.value:+.2f} ({low:+.2f} to {high:+.2f}) {unit}"


def percent_span(found: Sure) -> str:
    return f"{found.value:.0%} ({found.low:.0%} to {found.high:.0%})"


def cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*rows, *(f"| {' | '.join(line)} |" for line in lines)]) + "\n"


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
