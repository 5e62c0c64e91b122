"""The claims of the paper, one by one, as these figures leave them. Intervals decide."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from unirestore_ros.evaluate.differences import JUDGED_BY
from unirestore_ros.evaluate.report.results import Results, Sure
from unirestore_ros.evaluate.report.targets import DEGRADED, EYE
from unirestore_ros.evaluate.report.words import TITLES, listed, signed_db, span
from unirestore_ros.evaluate.scores import OURS
from unirestore_ros.synthetic.corruptions import VALIDATION

HOLDS, FAILS, NOT_SHOWN = "holds", "does not hold", "not shown"
LEAST_CHANGE = 0.01
"""Of a task's features by its prompt: under it the task claim is not shown, whatever was scored."""
LEAST_EFFECT = 0.001
"""Of a prompt on its task's figure, a tenth of a point: less is of no use to anyone."""
FEATURE_STRIDE = 4
"""Where a bundle publishes a task's features."""
SINGLE_PROMPT = "unirestore-single-prompt"
MACHINE_TASKS = ("segmentation", "detection", "classification")


@dataclasses.dataclass(frozen=True)
class Claim:
    what: str
    verdict: str
    why: str


def claims(main: Results) -> list[Claim]:
    return [_one_network(main), *_task_prompts(main), _unseen(main), _new_task(main)]


def verdict_of(found: Sequence[Sure | None]) -> str:
    """Holds where every difference is surely above 0; fails where one is surely below."""
    if any(one is not None and one.below for one in found):
        return FAILS
    return HOLDS if found and all(one is not None and one.above for one in found) else NOT_SHOWN


def _one_network(main: Results) -> Claim:
    found = {task: main.difference("common", task, "degraded") for task in JUDGED_BY}
    why = "Over the degraded image, mean of the common corruptions: " + _listed(found) + "."
    return Claim("One network serves eye and machine", verdict_of(list(found.values())), why)


def _listed(found: dict[str, Sure | None]) -> str:
    return "; ".join(
        f"{TITLES[JUDGED_BY[task]]} with the {task} prompt "
        + ("not measured" if one is None else span(one, JUDGED_BY[task]))
        for task, one in found.items()
    )


def _task_prompts(main: Results) -> list[Claim]:
    return [_task_prompt(main, task) for task in MACHINE_TASKS]


def _task_prompt(main: Results, task: str) -> Claim:
    change = main.change(task, FEATURE_STRIDE)
    found = main.difference("common", task, OURS, "perception")
    verdict = verdict_of([found])
    why = "Not measured."
    if found is not None and change is not None:
        why = (
            f"{TITLES[JUDGED_BY[task]]} over the perception prompt's image: "
            f"{span(found, JUDGED_BY[task])}; the prompt changes the adapter's output at stride "
            f"{FEATURE_STRIDE} by {change:.1%}"
        )
        if change < LEAST_CHANGE:
            why += f", under {LEAST_CHANGE:.0%}: whatever the score, the features are the same"
        elif verdict == NOT_SHOWN:
            why += ": the interval holds 0"
        elif abs(found.value) < LEAST_EFFECT:
            verdict = NOT_SHOWN
            why += f": surely not 0, but under {100 * LEAST_EFFECT:.1f} points, which is no use"
        why += "."
        single = main.difference("common", task, SINGLE_PROMPT)
        if single is not None:
            shown = span(single, JUDGED_BY[task])
            why += f" Over a network with a single prompt for all tasks: {shown}."
    if change is None or change < LEAST_CHANGE:
        verdict = NOT_SHOWN
    return Claim(f"The {task} prompt makes features better for {task}", verdict, why)


def _unseen(main: Results) -> Claim:
    eye = main.difference("validation", "perception", "degraded")
    machine = main.difference("validation", "segmentation", "degraded")
    seen = [found for found in (eye, machine) if found is not None]
    gains = {name: main.gain("psnr", EYE, DEGRADED, [name]) for name in VALIDATION}
    each = [f"{name} {signed_db(gain)}" for name, gain in gains.items() if gain is not None]
    why = "Not measured."
    if eye is not None:
        why = (
            f"Over degraded, on validation corruptions, never trained on: PSNR {span(eye, 'psnr')}"
        )
        why += f", mIoU {span(machine)}" if machine is not None else ""
        why += f"; PSNR of each: {listed(each)}"
        held_out = main.difference("held_out", "perception", "degraded")
        if held_out is not None:
            seen.append(held_out)
            shown = span(held_out, "psnr")
            why += f". Drops on the lens, the road's degradation that was held out: PSNR {shown}"
        why += "."
    return Claim("It generalises to degradations it never saw", verdict_of(seen), why)


def _new_task(main: Results) -> Claim:
    """The price is a fact of the design and tested; the claim is that the prompt is worth it."""
    over_perception = _task_prompt(main, "detection")
    degraded = main.difference("common", "detection", "degraded")
    why = (
        "The price holds by construction, and a test proves it: detection was added by training"
        " its prompt alone, and no other output changed by a bit. Whether it is worth having:"
        " with it, mAP50 over degraded is "
        + ("not measured" if degraded is None else span(degraded))
        + f"; that it is better than the perception prompt: {over_perception.verdict}, see above."
    )
    return Claim("A new task costs one prompt", over_perception.verdict, why)
