"""A picture of how training went: ``losses.jsonl`` -> ``losses.png``."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from unirestore_ros.files import written_beside

NOT_A_LOSS = ("iteration", "seconds", "rate")
WINDOW, SHORT_WINDOW = 15, 3
"""Recorded values in the moving mean: a value every 20 iterations."""


def plot_losses(folder: Path) -> Path:
    """Every recorded loss over the iterations, smoothed, on a logarithmic axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, (iterations, values) in _losses(folder, WINDOW).items():
        axes.plot(iterations, values, label=name)
    axes.set(xlabel="iteration", ylabel="loss", yscale="log", title=folder.name)
    axes.legend()
    with written_beside(folder / "losses.png") as beside:
        figure.savefig(beside, format="png", dpi=100)
    return folder / "losses.png"


def plot_curves(runs: Mapping[str, Mapping[str, Path]], file: Path) -> None:
    """A panel for each of ``runs``, in it the loss of every folder, by the name of its line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(runs), 3.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(runs), sharey=True))
    for axes, (title, folders) in zip(panels, runs.items(), strict=True):
        for (name, folder), dashes in zip(folders.items(), itertools.cycle(("-", "--", ":"))):
            for iterations, values in _losses(folder, SHORT_WINDOW).values():
                axes.plot(iterations, values, dashes, label=name)
        axes.set(xlabel="iteration", yscale="log", title=title)
        axes.grid(color="#e6e6e6", which="both")
    panels[0].set_ylabel("loss")
    panels[-1].legend(title="learning rate")
    with written_beside(file) as beside:
        figure.savefig(beside, format="png", dpi=100)


def _losses(folder: Path, window: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every recorded loss of a run by its name: iterations, and moving means of its values."""
    lines = recorded(folder)
    found = {}
    for name in sorted({key for line in lines for key in line} - set(NOT_A_LOSS)):
        points = [(line["iteration"], line[name]) for line in lines if name in line]
        iterations, values = np.array(points).T
        width = min(window, len(values))
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        found[name] = iterations[width - 1 :], smooth
    return found


def recorded(folder: Path) -> list[dict[str, float]]:
    """What a run wrote of its losses, a line every few iterations."""
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
