"""Differences between methods with confidence intervals, and what a prompt changes.

Figures are computed on images drawn again with replacement (the bootstrap). All methods see the
same draws, so a difference of two is taken draw by draw. The interval is the central 95 % of the
draws; it says how much depends on which images were taken, and nothing of other streets, other
seeds of the degradation or another training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unirestore_ros.evaluate.conditions import groups_of
from unirestore_ros.evaluate.methods import OURS, Image
from unirestore_ros.evaluate.metrics import confidence_interval, drawn_weights, mean_ious
from unirestore_ros.evaluate.scoring import Score, Scores
from unirestore_ros.model import UniRestore
from unirestore_ros.model.unirestore import pad_to_multiple
from unirestore_ros.tasks import long_name
from unirestore_ros.train.data import to_tensor
from unirestore_ros.train.findings import Findings, map50

TASK_FIGURES = {
    "perception": "psnr",
    "segmentation": "miou",
    "detection": "map50",
    "classification": "top1",
}
"""The figure that each task is measured by."""
Draws = NDArray[np.float64]
"""A figure's mean over corruptions (DRAWS + 1,): on the images as they are, then on each draw."""


def drawn(figure: str, score: Score) -> Draws:
    """Compute the figure of one method under one corruption for each draw."""
    if figure in ("psnr", "ssim"):
        values = np.array([fidelity[figure] for fidelity in score.fidelity])
        weights = drawn_weights(len(values))
        return np.asarray(weights @ values / weights.sum(axis=1))
    return _machine_draws(figure, score.findings, drawn_weights(len(score.findings)))


def _machine_draws(figure: str, findings: Findings, weights: NDArray[np.int64]) -> Draws:
    if figure == "miou":
        matrices = np.stack([finding.confusion for finding in findings])
        return mean_ious(np.tensordot(weights, matrices, axes=1))
    if figure == "top1":
        right = weights @ np.array([finding.right for finding in findings])
        crops = weights @ np.array([finding.crops for finding in findings])
        return np.asarray(right / np.maximum(crops, 1))
    return np.array([map50(findings, each) for each in weights])


class Comparison:
    """Differences of figures over some corruptions, each method drawn once."""

    def __init__(self, scores: Scores, corruptions: Sequence[str | None]) -> None:
        self._scores, self._corruptions = scores, corruptions
        self._known: dict[tuple[str, str, str | None], Draws | None] = {}

    def draws(self, figure: str, method: str, task: str | None) -> Draws | None:
        """Return None where the method, or what the figure needs, is not there."""
        key = (figure, method, task)
        if key not in self._known:
            self._known[key] = self._mean(figure, method, task)
        return self._known[key]

    def _mean(self, figure: str, method: str, task: str | None) -> Draws | None:
        found = [self._scores.get((method, task, name)) for name in self._corruptions]
        needs = "fidelity" if figure == "psnr" else "findings"
        there = [score for score in found if score is not None and getattr(score, needs)]
        if not there or len(there) < len(found):
            return None
        return np.asarray(np.mean([drawn(figure, score) for score in there], axis=0))


def differences(scores: Scores) -> list[dict[str, Any]]:
    """Compare each task's figure with its own prompt to what the perception prompt and every other
    method give: means over each group of corruptions, with 95 % intervals."""
    found = []
    for group, names in groups_of(key[2] for key in scores).items():
        comparison = Comparison(scores, names)
        for task, figure in TASK_FIGURES.items():
            ours = comparison.draws(figure, OURS, task)
            if ours is None:
                continue
            for method, prompt in _others(scores, task, names[0]):
                theirs = comparison.draws(figure, method, prompt)
                if theirs is not None:
                    found.append(
                        {"over": group, "method": OURS, "task": task, "less": [method, prompt],
                         "figure": figure, **confidence_interval(ours - theirs)}
                    )  # fmt: skip
    return found


def _others(scores: Scores, task: str, corruption: str) -> list[tuple[str, str | None]]:
    """List what a task is compared with: our perception prompt, and every other method with what
    it makes for this task, else with its only or first image."""
    prompts: dict[str, list[str | None]] = {}
    for method, prompt, name in scores:
        if name == corruption:
            prompts.setdefault(method, []).append(prompt)
    others: list[tuple[str, str | None]] = []
    if task != "perception" and OURS in prompts:
        others.append((OURS, "perception"))
    for method, made in prompts.items():
        if method != OURS:
            others.append((method, task if task in made else made[0]))
    return others


def won_back(scores: Scores) -> list[dict[str, Any]]:
    """Compute which share of a machine task's lost figure every method and prompt wins back:
    (method - degraded) / (clean - degraded)."""
    found = []
    for group, names in groups_of(key[2] for key in scores).items():
        comparison, unharmed = Comparison(scores, names), Comparison(scores, (None,))
        for task, figure in TASK_FIGURES.items():
            if task == "perception":
                continue
            clean = unharmed.draws(figure, "clean", None)
            degraded = comparison.draws(figure, "degraded", None)
            if clean is None or degraded is None:
                continue
            for method, prompt in [(OURS, task), *_others(scores, task, names[0])]:
                ours = comparison.draws(figure, method, prompt)
                lost = clean - degraded
                if method != "degraded" and ours is not None and (lost > 0).all():
                    share = confidence_interval((ours - degraded) / lost)
                    found.append({"over": group, "method": method, "task": prompt,
                                  "figure": figure, **share})  # fmt: skip
    return found


@torch.inference_mode()
def prompt_changes(network: UniRestore, frames: Sequence[Image]) -> list[dict[str, Any]]:
    """Measure how much a task's prompt changes what the adapters give.

    For each task and adapter, ``change``: the norm of the difference of its output x' with the
    task's prompt and with perception's, over the norm of the latter; mean over ``frames``.
    """
    device = next(network.parameters()).device
    changes: dict[tuple[str, int], list[float]] = {}
    for frame in frames:
        z0, skips = network.encode(
            pad_to_multiple(to_tensor([frame], device), network.config.multiple)
        )
        zt = network.denoise(z0)
        for stride in network.config.tfa.strides:
            usual = network.adapt(zt, skips, "ir", stride)
            for task in network.config.tasks:
                if task != "ir":
                    moved = network.adapt(zt, skips, task, stride) - usual
                    changes.setdefault((task, stride), []).append(
                        float(moved.norm() / usual.norm())
                    )
    return [
        {"task": long_name(task), "against": "perception", "stride": stride,
         "change": round(float(np.mean(values)), 6)}
        for (task, stride), values in changes.items()
    ]  # fmt: skip
