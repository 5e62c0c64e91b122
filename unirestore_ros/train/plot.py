"""A picture of how training went: ``losses.jsonl`` -> ``losses.png``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from unirestore_ros.files import written_beside

NOT_A_LOSS = ("iteration", "seconds", "rate")
WINDOW = 15
"""Recorded values in the moving mean: a value every 20 iterations."""


def plot_losses(folder: Path) -> Path:
    """Every recorded loss over the iterations, smoothed, on a logarithmic axis."""
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in sorted({key for line in lines for key in line} - set(NOT_A_LOSS)):
        points = [(line["iteration"], line[name]) for line in lines if name in line]
        iterations, values = np.array(points).T
        width = min(WINDOW, len(values))
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(iterations[width - 1 :], smooth, label=name)
    axes.set(xlabel="iteration", ylabel="loss", yscale="log", title=folder.name)
    axes.legend()
    with written_beside(folder / "losses.png") as beside:
        figure.savefig(beside, format="png", dpi=100)
    return folder / "losses.png"
