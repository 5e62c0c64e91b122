"""Feature heads: what the example consumers run on the adapter's features of frozen weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from unirestore_ros.files import sha256_of, written_beside
from unirestore_ros.model import UniRestore
from unirestore_ros.model.heads import (
    Head,
    HeadOrigin,
    SegmentationNetwork,
    make_head,
    save_head,
)
from unirestore_ros.model.weights import load_weights, placed
from unirestore_ros.tasks import DETECTION_CLASSES, SEGMENTATION_CLASSES, UNLABELLED, long_name
from unirestore_ros.train.downstream import class_weights, detection_loss
from unirestore_ros.train.features import STRIDE, FeatureBatch, FeatureSampler, cache_features
from unirestore_ros.train.judges import NORM_BATCHES
from unirestore_ros.train.loop import Plan, Run
from unirestore_ros.train.plot import plot_losses
from unirestore_ros.train.prepare import frames_in

PLANS = {
    "seg": Plan(1600, 3e-3, warm_up=50, average=0.99),
    "det": Plan(1600, 3e-3, warm_up=50, average=0.99),
}
BATCH, CROP_CELLS = 8, 48
CLASS_NAMES = {
    "seg": tuple(name.lower() for name in SEGMENTATION_CLASSES),
    "det": DETECTION_CLASSES,
}
_SHORT_SHA = 12


def train_head(
    work: Path,
    task: str,
    weights: Path,
    plan: Plan,
    seed: int,
    device: torch.device,
    bf16: bool = False,
) -> Path:
    """Train the head of ``task`` ("seg", "det") on features that ``weights`` give; returns the
    file of the head, which is there once the plan is done. Features and runs are kept by weights,
    so that others start anew."""
    network = placed(load_weights(weights), device)
    frames, cache = frames_in(work), features_folder(work, weights)
    cache_features(frames, cache, network, device)
    sampler = FeatureSampler(frames, cache, task, seed, device)
    head = _fresh_head(task, network).to(device)
    stem = head.backbone.stem
    stem.mean, stem.deviation = sampler.statistics()
    groups: list[dict[str, object]] = [{"params": list(head.parameters())}]
    run = Run(run_folder(work, task, weights), head, groups, plan, bf16)
    sampler.reseed(seed + run.iteration)
    loss = _segmentation_loss(sampler) if task == "seg" else _detection_loss
    average = run.train(
        lambda i: {task: loss(head, sampler(BATCH, CROP_CELLS, _near_box(task, i)))}
    )
    # The averaged weights have statistics of their own.
    few = (sampler(BATCH, CROP_CELLS).features for _ in range(NORM_BATCHES))
    update_bn(few, average)
    plot_losses(run.folder)
    file = _finished(work, task, weights)
    save_head(average, _origin(task, network, weights), file)
    return file


def _near_box(task: str, iteration: int) -> bool:
    """Every other crop of segmentation is drawn around a box too: small things are rare."""
    return task == "det" or iteration % 2 == 1


def segmentation_loss(counts: Tensor) -> Callable[[Head, Tensor, Tensor], Tensor]:
    """Cross-entropy of (head, input, labels) at the cells' centres; ``counts`` (K,): labelled
    pixels of each class, see ``class_weights``."""
    weights = class_weights(counts)

    def loss(head: Head, x: Tensor, labels: Tensor) -> Tensor:
        assert isinstance(head, SegmentationNetwork)
        centres = labels[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
        return F.cross_entropy(head(x).float(), centres, weights, ignore_index=UNLABELLED)

    return loss


def _segmentation_loss(sampler: FeatureSampler) -> Callable[[Head, FeatureBatch], Tensor]:
    loss = segmentation_loss(sampler.label_counts(len(CLASS_NAMES["seg"])))
    return lambda head, batch: loss(head, batch.features, batch.labels)


def _detection_loss(head: Head, batch: FeatureBatch) -> Tensor:
    logits, shapes = head(batch.features)
    return detection_loss(logits.float(), shapes.float(), batch.boxes)


def export_head(work: Path, task: str, weights: Path) -> Path:
    """Write ``WEIGHTS-head-TASK.safetensors`` beside the weights that it belongs to. ValueError
    where its training is not done."""
    finished = _finished(work, task, weights)
    if not finished.exists():
        raise ValueError(f"{finished} is not there: run `train head-{task}` to its end first")
    file = head_file(weights, long_name(task))
    with written_beside(file) as beside:
        shutil.copyfile(finished, beside)
    return file


def _finished(work: Path, task: str, weights: Path) -> Path:
    return run_folder(work, task, weights) / "head.safetensors"


def _origin(task: str, network: UniRestore, weights: Path) -> HeadOrigin:
    sha = sha256_of(weights)
    return HeadOrigin(long_name(task), CLASS_NAMES[task], STRIDE, _channels(network), sha)


def _fresh_head(task: str, network: UniRestore) -> Head:
    return make_head(long_name(task), len(CLASS_NAMES[task]), _channels(network))


def head_file(weights: Path, task: str) -> Path:
    """Where the head of a task (long name) for these weights is, beside them."""
    return weights.with_name(f"{weights.stem}-head-{task}.safetensors")


def features_folder(work: Path, weights: Path) -> Path:
    return work / f"features-{_short(weights)}"


def run_folder(work: Path, task: str, weights: Path) -> Path:
    return work / f"head-{task}-{_short(weights)}"


def _short(weights: Path) -> str:
    return sha256_of(weights)[:_SHORT_SHA]


def _channels(network: UniRestore) -> int:
    return network.config.tfa.feature_channels[network.level_of(STRIDE)]
