"""Plots of an evaluation's rows: gains by family of corruption, and two tasks against each other.

Blue is ours, grey the others (Okabe and Ito's palette): no meaning hangs on telling hues apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unirestore_ros.evaluate.conditions import SHOWN_FAMILIES
from unirestore_ros.evaluate.methods import OURS
from unirestore_ros.evaluate.results import Results
from unirestore_ros.files import written_beside
from unirestore_ros.synthetic.corruptions import COMMON

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

BLUE, GREY, DARK = "#0072B2", "#9a9a9a", "#333333"
LEAST_RANGE_DB = 1.0
"""Least range of an axis: a hundredth of a decibel is not to look like a gain."""
Point = tuple[float, float]
_ONE_PROMPT = f"{OURS}, perception prompt"
_MARKERS = {OURS: ("s", 95, BLUE), _ONE_PROMPT: ("D", 26, "white")}
"""Shape, area and colour; every other method is a grey disc."""
_OFFSETS = [
    (x * r, y * r)
    for r in (9, 16, 24, 34, 46, 60, 76, 94)
    for x, y in ((1, 0.3), (1, -0.5), (-1, 0.3), (-1, -0.5), (0.7, 0.9), (0.7, -0.9), (-0.7, 0.9),
                 (-0.7, -0.9))
]  # fmt: skip
"""Where a label may stand beside its point, in points, the best first."""


def plot_gains(results: Results, file: Path) -> bool:
    """Plot PSNR over degraded, a panel a family, a bar a method; False without data."""
    from matplotlib.figure import Figure

    methods = _perception_methods(results)
    families = {
        f: [n for n in names if n in results.corruptions] for f, names in SHOWN_FAMILIES.items()
    }
    families = {f: names for f, names in families.items() if names}
    if not methods or not families:
        return False
    columns = min(len(families), 3)
    rows = -(-len(families) // columns)
    height = rows * (1.0 + 0.27 * len(methods)) + 0.6
    figure = Figure(figsize=(3.2 * columns + 1.4, height), layout="constrained")
    panels = np.atleast_2d(figure.subplots(rows, columns, sharey=True, squeeze=False)).ravel()
    for axes, (family, names) in zip(panels, families.items(), strict=False):
        _gain_panel(axes, results, methods, f"{family} ({len(names)})", names)
    for axes in panels[len(families) :]:
        axes.set_visible(False)
    figure.suptitle("PSNR over the degraded image, dB, mean of each family")
    _save(figure, file)
    return True


def _perception_methods(results: Results) -> list[tuple[str, str | None]]:
    """List each method with the perception prompt, or else with its only or first one."""
    found: dict[str, str | None] = {}
    for method, task in results.methods:
        if method not in ("clean", "degraded") and (method not in found or task == "perception"):
            found[method] = task
    return list(found.items())


def _gain_panel(
    axes: Axes, results: Results, methods: Sequence[tuple[str, str | None]], title: str,
    names: Sequence[str],
) -> None:  # fmt: skip
    gains = [results.gain("psnr", method, ("degraded", None), names) for method in methods]
    values = [0.0 if gain is None else gain for gain in gains]
    colours = [BLUE if method == OURS else GREY for method, _ in methods]
    axes.barh([method for method, _ in methods], values, color=colours, height=0.72)
    axes.axvline(0, color=DARK, linewidth=0.8)
    low, high = min(0.0, *values), max(LEAST_RANGE_DB, *values)
    room = 0.26 * (high - low)
    axes.set_xlim(low - (room if low < 0 else 0.02 * room), high + room)
    for i, (gain, value) in enumerate(zip(gains, values, strict=True)):
        shown = "not measured" if gain is None else f"{value:+.2f}"
        side, shift = ("right", -3) if value < 0 else ("left", 3)
        axes.annotate(shown, (value, i), (shift, 0), textcoords="offset points", ha=side,
                      va="center", fontsize=8, color=DARK)  # fmt: skip
    axes.set_title(title, fontsize=10)
    axes.invert_yaxis() if not axes.yaxis_inverted() else None
    for edge in ("top", "right", "left"):
        axes.spines[edge].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.tick_params(axis="x", labelsize=8)


def plot_two_tasks(results: Results, file: Path) -> bool:
    """Plot top-1 against mIoU, a point a method, as in the paper's first figure, each task with its
    own prompt where there is one; False where no task network was run."""
    from matplotlib.figure import Figure

    points = _task_points(results)
    clean = points.pop("clean", None)  # far from all others, which it would press together
    if not points:
        return False
    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    axes = figure.subplots()
    for name, (x, y) in points.items():
        marker, size, colour = _MARKERS.get(name, ("o", 45, GREY))
        axes.scatter([x], [y], s=size, marker=marker, color=colour, zorder=3,
                     edgecolors=DARK, linewidths=0.7)  # fmt: skip
    axes.set(xlabel="segmentation, mIoU", ylabel="classification, top-1")
    title = "Two machine tasks, mean of the common corruptions"
    if clean is not None:
        title += f" (clean input: {clean[0]:.3f}, {clean[1]:.3f})"
    axes.set_title(title, fontsize=11)
    axes.margins(0.16)
    axes.grid(color="#e6e6e6", zorder=0)
    _label(figure, axes, points)
    _save(figure, file)
    return True


def _task_points(results: Results) -> dict[str, Point]:
    """Average over the common corruptions that were measured; ``clean`` is without
    degradation."""
    names = [name for name in COMMON if name in results.corruptions]
    prompts: dict[str, list[str | None]] = {}
    for method, task in results.methods:
        prompts.setdefault(method, []).append(task)
    points: dict[str, Point] = {}
    for method, made in prompts.items():
        seg, cls = (t if t in made else made[0] for t in ("segmentation", "classification"))
        _add_point(points, results, method, (method, seg), (method, cls), names)
    if len(prompts.get(OURS, [])) > 1:
        same = (OURS, "perception")
        _add_point(points, results, _ONE_PROMPT, same, same, names)
    return points


def _add_point(
    points: dict[str, Point], results: Results, name: str, seg: tuple[str, str | None],
    cls: tuple[str, str | None], names: Sequence[str],
) -> None:  # fmt: skip
    if name == "clean":
        x, y = results.figure("miou", *seg, None), results.figure("top1", *cls, None)
    else:
        x, y = results.mean("miou", *seg, names), results.mean("top1", *cls, names)
    if x is not None and y is not None:
        points[name] = (x, y)


def _label(figure: Figure, axes: Axes, points: dict[str, Point]) -> None:
    """Put each name beside its point where it covers neither another name nor a point."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    centres = [axes.transData.transform(point) for point in points.values()]
    taken = [Bbox.from_bounds(x - 8, y - 8, 16, 16) for x, y in centres]
    frame = axes.get_window_extent()
    for name, point in points.items():
        label: Annotation | None = None
        for offset in _OFFSETS:
            if label is not None:
                label.remove()
            label = _annotated(axes, name, point, offset)
            box = label.get_window_extent(renderer)
            text_box = Bbox.from_extents(*box.extents)
            inside = frame.contains(*text_box.min) and frame.contains(*text_box.max)
            if inside and not any(text_box.overlaps(other) for other in taken):
                break
        assert label is not None
        taken.append(Bbox.from_extents(*label.get_window_extent(renderer).extents))


def _annotated(axes: Axes, name: str, point: Point, offset: Point) -> Annotation:
    side = "left" if offset[0] > 0 else "right" if offset[0] < 0 else "center"
    line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6}
    return axes.annotate(
        name, point, offset, textcoords="offset points", ha=side, va="center", fontsize=9,
        color=DARK, arrowprops=line if np.hypot(*offset) > 18 else None,
    )  # fmt: skip


def _save(figure: Figure, file: Path) -> None:
    with written_beside(file) as beside:
        figure.savefig(beside, format="png", dpi=110)
