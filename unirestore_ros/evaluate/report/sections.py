"""The parts of the page that are made of an evaluation's rows and differences, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from unirestore_ros.evaluate.conditions import SHOWN_FAMILIES
from unirestore_ros.evaluate.differences import JUDGED_BY
from unirestore_ros.evaluate.report.claims import (
    FEATURE_STRIDE,
    LEAST_CHANGE,
    MACHINE_TASKS,
    claims,
)
from unirestore_ros.evaluate.report.results import Evaluations, Json, Results, method_name, sure
from unirestore_ros.evaluate.report.targets import DEGRADED, EYE, targets
from unirestore_ros.evaluate.report.words import TITLES, cell, listed, percent_span, span, table
from unirestore_ros.evaluate.scores import OURS
from unirestore_ros.synthetic.corruptions import COMMON, FAMILIES

SHORT_SHA = 12
FORMS = {"psnr": ".2f", "miou": ".3f", "map50": ".3f", "top1": ".3f"}


def measured(results: Results) -> str:
    """What was measured, on what, and by which commands."""
    commands = [f"- `{_words(meta)}`" for meta in results.metas]
    return "\n".join([_about(results.metas[0]) + "\n", *commands, ""])


def _about(meta: Json) -> str:
    return (
        f"{meta['images']} images of {meta['data']}, severity {meta['severity']}, weights"
        f" `{meta['weights_sha256'][:SHORT_SHA]}`, version {meta['version']}, PyTorch"
        f" {meta['torch']} on {meta['machine']}."
    )


def _words(meta: Json) -> str:
    limit = f" --limit {meta['limit']}" if meta["limit"] is not None else ""
    methods = f" --methods {meta['methods']}" if meta.get("methods") else ""
    return f"evaluate --data {meta['data']}{limit} --corruptions {meta['corruptions']}{methods}"


def target_table(evaluations: Evaluations) -> str:
    found = targets(evaluations)
    met, missed, unknown = (sum(t.met is value for t in found) for value in (True, False, None))
    said = f"{met} met, {missed} missed" + (f", {unknown} not measured" if unknown else "")
    lines = [(t.what, t.wanted, t.measured, t.verdict) for t in found]
    return f"{said}.\n\n" + table(("target", "wanted", "measured", ""), lines)


def claim_list(main: Results) -> str:
    return "\n".join(f"- **{c.what}: {c.verdict}.** {c.why}" for c in claims(main)) + "\n"


def eye_table(main: Results) -> str:
    """PSNR and SSIM of a few methods for every corruption, with the mean of each family."""
    rivals = [m for m in (("classical", None), ("nafnet", None)) if m in main.methods]
    methods: list[tuple[str, str | None]] = [DEGRADED, *rivals, EYE]
    head = ["corruption", *(m for m, _ in methods), "gain", "SSIM degraded", f"SSIM {OURS}"]
    lines = []
    for family, names in SHOWN_FAMILIES.items():
        there = [name for name in names if name in main.corruptions]
        lines += [_eye_line(main, methods, name, [name]) for name in there]
        if there:
            lines.append(_eye_line(main, methods, f"**{family}, mean**", there))
    clean = [cell(main.figure("psnr", *m, None), ".2f") for m in methods]
    ssim = cell(main.figure("ssim", *EYE, None), ".3f")
    return table(head, [*lines, ["none (clean input)", *clean, "", "", ssim]])


def _eye_line(
    main: Results, methods: Sequence[tuple[str, str | None]], title: str, names: Sequence[str]
) -> list[str]:
    psnr = [cell(main.mean("psnr", *m, names), ".2f") for m in methods]
    ssim = [cell(main.mean("ssim", *m, names), ".3f") for m in (DEGRADED, EYE)]
    gain = cell(main.gain("psnr", EYE, DEGRADED, names), "+.2f")
    return [title, *psnr, f"**{gain}**" if title.startswith("*") else gain, *ssim]


def method_table(main: Results) -> str:
    """Every method: PSNR by family, and what machines see, means over the common corruptions."""
    families = {f: names for f, names in FAMILIES.items() if set(names) <= main.corruptions}
    psnr = [f"PSNR, {family}" for family in families]
    head = ["method, prompt", *psnr, "PSNR", "mIoU", "mAP50", "top-1", "clean: PSNR", "clean: mIoU"]
    lines = []
    for method in main.methods:
        means = [cell(main.mean("psnr", *method, names), ".2f") for names in families.values()]
        common = [cell(main.mean(figure, *method, COMMON), form) for figure, form in FORMS.items()]
        clean = [cell(main.figure(figure, *method, None), FORMS[figure]) for figure in FORMS]
        same = method[0] == "clean"
        lines.append([method_name(*method), *means, *common, "" if same else clean[0], clean[1]])
    return table(head, lines)


def difference_table(main: Results) -> str:
    """Every difference over the common corruptions with what its interval says."""
    lines = []
    for entry in main.differences("common"):
        found = sure(entry)
        says = "better" if found.above else "worse" if found.below else "no difference shown"
        figure, other = entry["figure"], method_name(*entry["less"])
        lines.append([TITLES[figure], entry["task"], other, span(found, figure), says])
    return table(("figure", "our prompt", "less", "difference (95 % interval)", "ours is"), lines)


def won_back_table(main: Results) -> str:
    lines = []
    for figure in (JUDGED_BY[task] for task in MACHINE_TASKS):
        for method in main.methods:
            found = main.won_back("common", figure, *method)
            if found is not None:
                lines.append([TITLES[figure], method_name(*method), percent_span(found)])
    return table(("figure", "method, prompt", "share won back (95 % interval)"), lines)


def prompt_table(main: Results) -> str:
    strides = sorted({entry["stride"] for entry in main.prompts}, reverse=True)
    lines = [
        [task, *(cell(main.change(task, stride), ".2%") for stride in strides)]
        for task in MACHINE_TASKS
    ]
    changes = {task: main.change(task, FEATURE_STRIDE) for task in MACHINE_TASKS}
    under = [task for task, change in changes.items() if change is None or change < LEAST_CHANGE]
    where = f"At stride {FEATURE_STRIDE}, where a bundle publishes features,"
    said = f"{where} every prompt changes them by {LEAST_CHANGE:.0%} or more.\n"
    if under:
        said = (
            f"{where} under {LEAST_CHANGE:.0%}: {listed(under)}. There the task claim is not"
            " shown, whatever the scores say.\n"
        )
    return table(("prompt", *(f"stride {s}" for s in strides)), lines) + "\n" + said


def other_tables(evaluations: Evaluations) -> str:
    """Further evaluations, of other weights, images or severity: the means only."""
    parts = [_other(evaluations.main, other) for other in evaluations.others]
    return "\n".join(parts) if parts else "None.\n"


def _other(main: Results, other: Results) -> str:
    gains = []
    for family, names in SHOWN_FAMILIES.items():
        there = [name for name in names if name in other.corruptions]
        here, before = (results.gain("psnr", EYE, DEGRADED, there) for results in (other, main))
        if here is not None:
            gains.append([family, f"{here:+.2f}", cell(before, "+.2f")])
    title = other.name.removeprefix(f"{main.name}_").replace("_", " ")
    head = ("family", "gain of PSNR over degraded, dB", "in the main table")
    return "\n".join(
        [f"### {title}\n{_about(other.metas[0])}\n", table(head, gains), method_table(other)]
    )
