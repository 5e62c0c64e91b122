"""Training of the downstream networks, on clean crops; then, to see what restoration is worth, of
the same ones on degraded crops."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from unirestore_ros.model.weights import placed
from unirestore_ros.tasks import SEGMENTATION_CLASSES
from unirestore_ros.train.downstream import (
    NEEDS_BOXES,
    NETWORKS,
    Classifier,
    Detector,
    Downstream,
    Downstreams,
    Segmenter,
    box_crops,
    class_weights,
)
from unirestore_ros.train.labelled import LabelledBatch, LabelledSampler, label_counts
from unirestore_ros.train.loop import Losses, Plan, Run
from unirestore_ros.train.plot import plot_losses
from unirestore_ros.train.prepare import frames_in

BATCH, CROP = 8, 192
RETRAINED = "retrained-"
"""Of the names of runs on degraded crops."""
NORM_BATCHES = 40
"""From which the averaged weights get their normalisation's statistics."""


def train_judge(
    work: Path,
    task: str,
    plan: Plan,
    seed: int,
    device: torch.device,
    bf16: bool = False,
    retrained: bool = False,
) -> None:
    """Train the downstream network of ``task`` ("seg", "det", "cls") on the frames in ``work``.

    ``retrained``: on degraded crops instead of clean ones, from the weights that clean ones gave.
    """
    network: Downstream = placed(NETWORKS[task](), device)
    batches = LabelledSampler(frames_in(work), seed, device)
    if isinstance(network, Segmenter):
        counts = label_counts(batches.annotations, len(SEGMENTATION_CLASSES))
        network.class_weights.copy_(class_weights(counts))
    if retrained:
        network.load_state_dict(averaged(work, task))
    groups: list[dict[str, object]] = [{"params": list(network.parameters())}]
    folder = work / (f"{RETRAINED}{task}" if retrained else task)
    run = Run(folder, network, groups, plan, bf16)
    batches.reseed(seed + run.iteration)

    def step(iteration: int) -> Losses:
        batch = batches(BATCH, CROP, _near_box(task, iteration))
        return {task: network.loss(batch.degraded if retrained else batch.clean, batch)}

    average = cast(Downstream, run.train(step))
    few = (batches(BATCH, CROP, _near_box(task, i)) for i in range(NORM_BATCHES))
    update_bn((_input(average, batch, retrained) for batch in few), average)
    run.save()
    plot_losses(run.folder)


def _near_box(task: str, iteration: int) -> bool:
    """Every other crop of segmentation is drawn around a box too: small things are rare."""
    return task in NEEDS_BOXES or iteration % 2 == 1


def _input(network: Downstream, batch: LabelledBatch, retrained: bool) -> Tensor:
    images = batch.degraded if retrained else batch.clean
    if isinstance(network, Classifier):
        return box_crops(images, batch.boxes)[0]
    return images


def averaged(work: Path, name: str) -> dict[str, Tensor]:
    """The averaged weights of a run as they stand; ValueError where it has not begun."""
    file = work / name / "checkpoint.pt"
    if not file.exists():
        raise ValueError(f"{file} is not there: run `train {name}` first")
    state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)["average"]
    return state


def frozen_judge(work: Path, task: str, device: torch.device) -> Downstream:
    """The downstream network of ``task`` as it stands, to learn from but not to be trained."""
    network: Downstream = NETWORKS[task]()
    network.load_state_dict(averaged(work, task))
    return placed(network.eval().requires_grad_(False), device)


def read_downstreams(work: Path, prefix: str = "") -> Downstreams:
    """The three networks as they stand, or with ``RETRAINED`` those trained on degraded crops."""
    networks = Downstreams(Segmenter(), Detector(), Classifier())
    for task, network in zip(("seg", "det", "cls"), networks, strict=True):
        network.load_state_dict(averaged(work, f"{prefix}{task}"))
    return networks
