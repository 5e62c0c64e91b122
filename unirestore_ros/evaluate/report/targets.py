"""What the network was set to reach, and whether it does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from unirestore_ros.evaluate.report.results import Evaluations, Results, Sure
from unirestore_ros.evaluate.report.words import (
    decibels,
    percent_span,
    points,
    signed_db,
    signed_points,
    span,
)
from unirestore_ros.evaluate.scores import OURS
from unirestore_ros.synthetic.corruptions import COMMON, FAMILIES, VALIDATION

EYE: tuple[str, str | None] = (OURS, "perception")
SEGMENTATION = (OURS, "segmentation")
DEGRADED: tuple[str, str | None] = ("degraded", None)


@dataclasses.dataclass(frozen=True)
class Target:
    """``met`` None: not measured."""

    what: str
    wanted: str
    measured: str
    met: bool | None

    @property
    def verdict(self) -> str:
        return "not measured" if self.met is None else "met" if self.met else "**missed**"


def targets(evaluations: Evaluations) -> list[Target]:
    main = evaluations.main
    return [
        *_for_the_eye(main),
        *_against_nafnet(main),
        *_for_machines(main),
        *_heads(evaluations),
        *_clean(main),
    ]


def _at_least(
    what: str, value: float | None, least: float, shown: Callable[[float], str] = signed_db
) -> Target:
    met = None if value is None else value >= least
    measured = "-" if value is None else shown(value)
    return Target(what, f"at least {shown(least)}", measured, met)


def _for_the_eye(main: Results) -> Iterator[Target]:
    for family, title, least in (
        ("noise", "noise", 6.0),
        ("light", "brightness, contrast, fog, frost, snow", 5.0),
        ("blur", "blur, pixelate, jpeg, elastic", 0.3),
    ):
        gain = main.gain("psnr", EYE, DEGRADED, FAMILIES[family])
        yield _at_least(f"PSNR over degraded, {title}, mean", gain, least)
    gains = {name: main.gain("psnr", EYE, DEGRADED, [name]) for name in FAMILIES["blur"]}
    known = {name: gain for name, gain in gains.items() if gain is not None}
    worst = min(known, key=lambda name: known[name]) if known else None
    what = "the worst of these" + (f" ({worst})" if worst else "")
    yield _at_least(what, known[worst] if worst else None, -0.2)
    gain = main.gain("psnr", EYE, ("classical", None), COMMON)
    yield _at_least("PSNR over classical, mean of the common 15", gain, 1.5)
    gain = main.gain("psnr", EYE, DEGRADED, VALIDATION)
    yield _at_least("PSNR over degraded, the 4 validation corruptions, mean", gain, 1.0)


def _against_nafnet(main: Results) -> Iterator[Target]:
    gain = main.gain("psnr", EYE, ("nafnet", None), COMMON)
    yield _at_least("PSNR against NAFNet of equal compute, mean (goal +0.2)", gain, -0.7)
    gain = main.gain("miou", SEGMENTATION, ("nafnet", None), COMMON)
    yield _at_least("mIoU, segmentation prompt against NAFNet's images", gain, 0.01, signed_points)


def _for_machines(main: Results) -> Iterator[Target]:
    share = main.won_back("common", "miou", *SEGMENTATION)
    measured = "-" if share is None else percent_span(share)
    met = None if share is None else share.value >= 0.5
    yield Target("lost mIoU won back, segmentation prompt", "at least half", measured, met)
    for task in ("segmentation", "classification", "detection"):
        goal = " (goal +3 points)" if task == "segmentation" else ""
        for method, title in ((OURS, f"perception prompt{goal}"), ("degraded", "degraded")):
            prompt = "perception" if method == OURS else None
            found = main.difference("common", task, method, prompt)
            yield _surely_above(f"{task} prompt over {title}", found)


def _surely_above(what: str, found: Sure | None) -> Target:
    measured = "-" if found is None else span(found)
    return Target(what, "interval above 0", measured, None if found is None else found.above)


def _heads(evaluations: Evaluations) -> Iterator[Target]:
    found = head_difference(evaluations, "degraded pixels")
    yield _surely_above("mIoU, head on adapter features over the head on degraded pixels", found)
    found = head_difference(evaluations, "restored image")
    measured = "-" if found is None else span(found)
    met = None if found is None else found.value >= -0.01
    what = "mIoU, head on adapter features against the head on the restored image"
    yield Target(what, f"at least {signed_points(-0.01)}", measured, met)


def head_difference(evaluations: Evaluations, less: str) -> Sure | None:
    for entry in (evaluations.heads or {}).get("head_differences", []):
        if entry["less"] == less:
            return Sure(entry["value"], entry["low"], entry["high"])
    return None


def _clean(main: Results) -> Iterator[Target]:
    psnr = main.figure("psnr", *EYE, None)
    measured = "-" if psnr is None else decibels(psnr)
    met = None if psnr is None else psnr >= 34
    yield Target("clean input, PSNR of the restored to the input", "at least 34 dB", measured, met)
    for task in ("perception", "segmentation"):
        change = main.gain("miou", (OURS, task), ("clean", None), [None])
        met = None if change is None else change >= -0.01
        measured = "-" if change is None else signed_points(change)
        what = f"clean input, mIoU after restoration, {task} prompt"
        yield Target(what, f"falls by at most {points(0.01)}", measured, met)
