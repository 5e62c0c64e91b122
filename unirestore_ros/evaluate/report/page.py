"""docs/quality.md: a template, written by hand, around sections made of figures."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from unirestore_ros.evaluate.plots import plot_gains, plot_two_tasks
from unirestore_ros.evaluate.report import extras, sections
from unirestore_ros.evaluate.report.results import Evaluations, read_evaluations
from unirestore_ros.files import written_beside

TEMPLATE = Path(__file__).with_name("quality.md.in")
_MARK = re.compile(r"^\{\{(\w+)\}\}\n", re.MULTILINE)
FIGURES = {
    "psnr_gain": "Gain of PSNR over the degraded image by family of corruption",
    "two_tasks": "Classification against segmentation, for every method",
    "before_after": "One image of each family: degraded, classical, restored, clean",
    "activations": "What the segmentation network responds to: degraded, restored, clean",
    "head_curves": "Losses of the heads, three learning rates each",
}
PLOTS = ("psnr_gain", "two_tasks", "head_curves")


def write_page(page: Path, files: Sequence[Path]) -> None:
    """``files``: of `evaluate`, `evaluate --video`, `train head-compare`, the demo's report. The
    plots of the main evaluation are drawn anew, from all of its files."""
    evaluations = read_evaluations(files)
    first = files[evaluations.main_file].with_suffix("")
    plot_gains(evaluations.main, first / "psnr_gain.png")
    plot_two_tasks(evaluations.main, first / "two_tasks.png")
    text = render(evaluations, figures_beside(page, files))
    with written_beside(page) as beside:
        beside.write_text(text)


def figures_beside(page: Path, files: Sequence[Path]) -> dict[str, list[str]]:
    """Figures in the folders named after the files, by name, as the page refers to them: the first
    plot of a name, and all pictures."""
    found: dict[str, list[str]] = {}
    for file in files:
        for name in FIGURES:
            for picture in sorted(file.with_suffix("").glob(f"{name}.*")):
                found.setdefault(name, []).append(os.path.relpath(picture, page.parent))
    return {name: found[name][:1] if name in PLOTS else found[name] for name in found}


def render(evaluations: Evaluations, figures: dict[str, list[str]]) -> str:
    main = evaluations.main
    parts = {
        "measured": sections.measured(main),
        "targets": sections.target_table(evaluations),
        "claims": sections.claim_list(main),
        "eye": sections.eye_table(main),
        "methods": sections.method_table(main),
        "differences": sections.difference_table(main),
        "won_back": sections.won_back_table(main),
        "prompts": sections.prompt_table(main),
        "others": sections.other_tables(evaluations),
        "video": extras.video_section(evaluations.video),
        "heads": extras.heads_section(evaluations),
        "demo": extras.demo_section(evaluations.demo),
        **{name: _pictures(name, figures) for name in FIGURES},
    }
    text = _MARK.sub(lambda mark: parts[mark[1]], TEMPLATE.read_text())
    return re.sub(r"(\d)%", r"\1 %", re.sub(r"\n{3,}", "\n\n", text))


def _pictures(name: str, figures: dict[str, list[str]]) -> str:
    return "\n".join(f"![{FIGURES[name]}]({path})\n" for path in figures.get(name, []))
