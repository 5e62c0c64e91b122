"""Every method on every image, clean and in every corruption, and what comes of it as rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unirestore_ros.degrade.corruptions import COMMON, corrupt
from unirestore_ros.evaluate.machine import Machine, difference
from unirestore_ros.evaluate.methods import CLEAN, Image, Method
from unirestore_ros.evaluate.table import Row, make_row
from unirestore_ros.metrics import psnr
from unirestore_ros.train.findings import Finding, figures_of
from unirestore_ros.train.labelled import Annotation
from unirestore_ros.train.prepare import read_photograph

JUDGED_BY = {"segmentation": "miou", "detection": "map50", "classification": "top1"}
"""The figure that each machine task is judged by."""
OURS = "unirestore"


@dataclasses.dataclass(frozen=True)
class Conditions:
    """Corruptions in their order (None: clean input), all at one severity."""

    corruptions: tuple[str | None, ...]
    severity: int


@dataclasses.dataclass
class Score:
    """Of one method, with one prompt, under one condition: an entry an image."""

    eye: list[dict[str, float]] = dataclasses.field(default_factory=list)
    machine: list[Finding] = dataclasses.field(default_factory=list)


Key = tuple[str, str | None, str | None]
"""Method, task, corruption."""
Scores = dict[Key, Score]


def score_all(
    files: Sequence[Path],
    methods: Mapping[str, Method],
    conditions: Conditions,
    machine: Machine | None,
    notes: Mapping[str, Annotation],
) -> Scores:
    """On clean input every method but ``degraded``; on each corruption every one but ``clean``."""
    scores: Scores = {}
    bar = tqdm(total=len(conditions.corruptions) * len(files), unit="image")
    for corruption in conditions.corruptions:
        left_out = "degraded" if corruption is None else CLEAN
        for file in files:
            clean = frame = read_photograph(file).image
            if corruption is not None:
                frame = corrupt(clean, corruption, conditions.severity, file.name)
            for name, method in methods.items():
                if name == left_out:
                    continue
                for task, image in method(frame).items():
                    score = scores.setdefault((name, task, corruption), Score())
                    score.eye.append(_fidelity(image, clean))
                    if machine is not None and file.stem in notes:
                        score.machine.append(machine.look(image, notes[file.stem]))
            bar.update()
    bar.close()
    return scores


def _fidelity(image: Image, clean: Image) -> dict[str, float]:
    from skimage.metrics import structural_similarity

    similarity = structural_similarity(image, clean, channel_axis=2, data_range=255)
    return {"psnr": psnr(image, clean), "ssim": float(similarity)}


def rows_of(scores: Scores, conditions: Conditions) -> list[Row]:
    return [
        make_row(
            method,
            task,
            corruption,
            None if corruption is None else conditions.severity,
            score.eye,
            figures_of(score.machine),
        )
        for (method, task, corruption), score in scores.items()
    ]


def differences(scores: Scores) -> list[dict[str, Any]]:
    """Each task's figure with its own prompt, less what the perception prompt and no restoration
    give: means over the common corruptions, with 95 % intervals over images."""
    found = []
    for task, figure in JUDGED_BY.items():
        for method, prompt in ((OURS, "perception"), ("degraded", None)):
            keys = [((OURS, task, name), (method, prompt, name)) for name in COMMON]
            pairs = [
                (scores[mine].machine, scores[other].machine)
                for mine, other in keys
                if mine in scores and other in scores
            ]
            if not pairs or not pairs[0][0]:
                continue
            ours, others = zip(*pairs, strict=True)
            values = dataclasses.asdict(difference(figure, ours, others))
            found.append({"method": OURS, "task": task, "less": [method, prompt], **values})
    return found
