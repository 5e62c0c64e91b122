"""Curves of a run: losses and learning rate, recorded as they are and drawn."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from unirestore_ros.files import written_beside

LOSSES = "losses.jsonl"
NOT_A_LOSS = ("iteration", "seconds", "rate")
# Recorded values in the moving mean of a curve: of a long run, of a short one.
WINDOW, SHORT_WINDOW = 15, 3


class Curves:
    """Writes losses and learning rate to ``losses.jsonl`` and, for TensorBoard, an event file."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / LOSSES
        self._board = SummaryWriter(str(folder))

    def record(
        self, iteration: int, seconds: float, rate: float, values: Mapping[str, float]
    ) -> None:
        line = {"iteration": iteration, "seconds": round(seconds, 1), "rate": rate}
        rounded = {name: round(value, 6) for name, value in values.items()}
        with self._file.open("a") as stream:
            stream.write(json.dumps(line | rounded) + "\n")
        for name, value in ({"rate": rate} | dict(values)).items():
            self._board.add_scalar(name, value, iteration)
        self._board.flush()


def plot_losses(folder: Path) -> None:
    """Draw every recorded loss over the iterations, smoothed, to ``losses.png``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, (iterations, values) in _smoothed(folder, WINDOW).items():
        axes.plot(iterations, values, label=name)
    axes.set(xlabel="iteration", ylabel="loss", yscale="log", title=folder.name)
    axes.legend()
    with written_beside(folder / "losses.png") as beside:
        figure.savefig(beside, format="png", dpi=100)


def plot_rates(searches: Mapping[str, Path], rates: Sequence[float], file: Path) -> None:
    """Draw a panel for each search of a learning rate, by its title: the loss at every rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(searches), 3.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(searches), sharey=True))
    for axes, (title, folder) in zip(panels, searches.items(), strict=True):
        for rate, dashes in zip(rates, itertools.cycle(("-", "--", ":"))):
            for iterations, values in _smoothed(rate_folder(folder, rate), SHORT_WINDOW).values():
                axes.plot(iterations, values, dashes, label=f"{rate:g}")
        axes.set(xlabel="iteration", yscale="log", title=title)
        axes.grid(color="#e6e6e6", which="both")
    panels[0].set_ylabel("loss")
    panels[-1].legend(title="learning rate")
    with written_beside(file) as beside:
        figure.savefig(beside, format="png", dpi=100)


def _smoothed(folder: Path, window: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return every recorded loss by name: iterations, and the moving means of its values."""
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
    """Read the losses that a run recorded, one dict for every ``RECORD_EVERY`` iterations."""
    return [json.loads(line) for line in (folder / LOSSES).read_text().splitlines()]


def rate_folder(folder: Path, rate: float) -> Path:
    return folder / f"rate-{rate:g}"
