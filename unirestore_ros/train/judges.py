"""Training of the downstream networks, on clean crops."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from unirestore_ros.train.downstream import (
    NEEDS_BOXES,
    NETWORKS,
    Classifier,
    Downstream,
    Segmenter,
    box_crops,
    class_weights,
)
from unirestore_ros.train.labelled import (
    SEGMENTATION_CLASSES,
    LabelledBatch,
    LabelledSampler,
    label_counts,
)
from unirestore_ros.train.loop import Losses, Plan, Run
from unirestore_ros.train.plot import plot_losses

BATCH, CROP = 8, 192
NORM_BATCHES = 40
"""From which the averaged weights get their normalisation's statistics."""


def train_judge(
    work: Path, task: str, plan: Plan, seed: int, device: torch.device, bf16: bool = False
) -> None:
    """Train the downstream network of ``task`` ("seg", "det", "cls") on the frames in ``work``."""
    network: Downstream = NETWORKS[task]().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = LabelledSampler(work / "frames", seed, device)
    if isinstance(network, Segmenter):
        counts = label_counts(batches.annotations, SEGMENTATION_CLASSES)
        network.class_weights.copy_(class_weights(counts))
    groups: list[dict[str, object]] = [{"params": list(network.parameters())}]
    run = Run(work / task, network, groups, plan, bf16)
    batches.reseed(seed + run.iteration)

    def step(iteration: int) -> Losses:
        batch = batches(BATCH, CROP, _near_box(task, iteration))
        return {task: network.loss(batch.clean, batch)}

    average = cast(Downstream, run.train(step))
    few = (_input(average, batches(BATCH, CROP, _near_box(task, i))) for i in range(NORM_BATCHES))
    update_bn(few, average)
    average.eval()
    run.save()
    plot_losses(run.folder)


def _near_box(task: str, iteration: int) -> bool:
    """Every other crop of segmentation is drawn around a box too: small things are rare."""
    return task in NEEDS_BOXES or iteration % 2 == 1


def _input(network: Downstream, batch: LabelledBatch) -> Tensor:
    if isinstance(network, Classifier):
        return box_crops(batch.clean, batch.boxes)[0]
    return batch.clean
