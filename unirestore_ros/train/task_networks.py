"""The task networks: what a machine task wants of an image.

Small networks for segmentation ("seg"), detection ("det") and classification ("cls"), trained on
clean crops and then frozen. Stages 2 and 3 learn from their losses, `evaluate` measures by them. To
see what restoration is worth, they are also trained on with degraded crops ("retrained").
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from unirestore_ros.files import written_beside
from unirestore_ros.model.detail import enlarged
from unirestore_ros.model.heads import (
    Backbone,
    DetectionNetwork,
    ImageStem,
    Residual,
    SegmentationNetwork,
    normed,
)
from unirestore_ros.model.weights import placed
from unirestore_ros.tasks import DETECTION_CLASSES, SEGMENTATION_CLASSES
from unirestore_ros.train.data import LabelledBatch, Truth, label_counts
from unirestore_ros.train.loop import Plan, Run, Setting, read_ema
from unirestore_ros.train.losses import Losses, class_weights, detection_loss, segmentation_loss

BATCH, CROP = 8, 192
BOX_CROP = 48  # side of the box crops that are classified, pixels
LEAST_SIDE = 8  # boxes with a side under so many pixels are not classified
RETRAINED = "retrained-"  # begins the names of the runs on degraded crops
# Batches from which the averaged weights get their batch normalisation's statistics: the average of
# weights has statistics of its own.
NORM_BATCHES = 40


class Segmenter(SegmentationNetwork):
    """Images (B, 3, H, W) -> logits (B, 11, H, W)."""

    class_weights: Tensor

    def __init__(self) -> None:
        super().__init__(len(SEGMENTATION_CLASSES), Backbone(ImageStem()))
        self.register_buffer("class_weights", torch.ones(len(SEGMENTATION_CLASSES)))

    def forward(self, images: Tensor) -> Tensor:
        return enlarged(self.logits(images), images)

    def loss(self, images: Tensor, batch: Truth) -> Tensor:
        return segmentation_loss(self.logits(images), batch.labels, self.class_weights)


class Detector(DetectionNetwork):
    """Images (B, 3, H, W) -> logits (B, 4, H/4, W/4) of centres and box maps of the same size."""

    def __init__(self) -> None:
        super().__init__(len(DETECTION_CLASSES), Backbone(ImageStem()))

    def loss(self, images: Tensor, batch: Truth) -> Tensor:
        logits, shapes = self(images)
        return detection_loss(logits, shapes, batch.boxes)


class Classifier(nn.Module):
    """Box crops (N, 3, 48, 48) in [0, 1] -> logits (N, 4) of the classes of boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            normed(3, 32, stride=2), nn.ReLU(), Residual(32),
            normed(32, 64, stride=2), nn.ReLU(), Residual(64),
            normed(64, 96, stride=2), nn.ReLU(), Residual(96),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, len(DETECTION_CLASSES)),
        )  # fmt: skip

    def forward(self, crops: Tensor) -> Tensor:
        return self.layers(crops * 2 - 1)

    def loss(self, images: Tensor, batch: Truth) -> Tensor:
        crops, classes = box_crops(images, batch.boxes)
        if not len(classes):
            return images.sum() * 0
        return F.cross_entropy(self(crops), classes)


def box_crops(images: Tensor, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Cut out each box (class, left, top, width, height) with a tenth of margin, and resize it.

    Returns crops (N, 3, 48, 48) and their classes (N,) int64.
    """
    crops, classes = [], []
    height, width = images.shape[-2:]
    for image, listed in zip(images, boxes, strict=True):
        for kind, x, y, w, h in listed.tolist():
            if min(w, h) < LEAST_SIDE:
                continue
            left, top = max(int(x - 0.1 * w), 0), max(int(y - 0.1 * h), 0)
            right, bottom = min(int(x + 1.1 * w) + 1, width), min(int(y + 1.1 * h) + 1, height)
            crop = image[None, :, top:bottom, left:right]
            crops.append(F.interpolate(crop, size=(BOX_CROP, BOX_CROP), mode="bilinear"))
            classes.append(int(kind))
    if not crops:
        none = torch.zeros(0, dtype=torch.long, device=images.device)
        return images.new_zeros(0, 3, BOX_CROP, BOX_CROP), none
    return torch.cat(crops), torch.tensor(classes, device=images.device)


TaskNetwork = Segmenter | Detector | Classifier
NETWORKS: dict[str, type[Segmenter] | type[Detector] | type[Classifier]] = {
    "seg": Segmenter,
    "det": Detector,
    "cls": Classifier,
}


class TaskNetworks(NamedTuple):
    """The three networks, trained."""

    segmenter: Segmenter
    detector: Detector
    classifier: Classifier


# --- training


def train_task_network(setting: Setting, plan: Plan, task: str, retrained: bool = False) -> Run:
    """Train the network of ``task`` on clean crops of the prepared frames; ``retrained``: on
    degraded crops, from the weights that clean ones gave."""
    network: TaskNetwork = placed(NETWORKS[task](), setting.device)
    batches = setting.labelled(2 if retrained else 1)
    if isinstance(network, Segmenter):
        counts = label_counts(batches.annotations, len(SEGMENTATION_CLASSES))
        network.class_weights.copy_(class_weights(counts))
    if retrained:
        network.load_state_dict(read_ema(setting.work, task))
    run = setting.run(f"{RETRAINED}{task}" if retrained else task, network, plan)
    batches.reseed(setting.seed + (2 if retrained else 1) + run.iteration)

    def step(iteration: int) -> Losses:
        batch = batches(BATCH, CROP, near_box(task, iteration))
        return {task: network.loss(batch.degraded if retrained else batch.clean, batch)}

    average = cast(TaskNetwork, run.train(step))
    few = (batches(BATCH, CROP, near_box(task, i)) for i in range(NORM_BATCHES))
    update_bn((_network_input(average, batch, retrained) for batch in few), average)
    run.finish()
    return run


def near_box(task: str, iteration: int) -> bool:
    """Say whether to draw crops around boxes. Detection and classification need one in each; for
    segmentation every other crop has one too, because small things are rare."""
    return task in ("det", "cls") or iteration % 2 == 1


def _network_input(network: TaskNetwork, batch: LabelledBatch, retrained: bool) -> Tensor:
    images = batch.degraded if retrained else batch.clean
    if isinstance(network, Classifier):
        return box_crops(images, batch.boxes)[0]
    return images


# --- weights


def frozen_task_network(setting: Setting, task: str) -> TaskNetwork:
    """Read the network of ``task`` as its training left it, to learn from its loss."""
    network: TaskNetwork = NETWORKS[task]()
    network.load_state_dict(read_ema(setting.work, task))
    return placed(network.eval().requires_grad_(False), setting.device)


def read_task_networks(work: Path, prefix: str = "") -> TaskNetworks:
    """Read the three networks as they stand, or with ``RETRAINED`` those of degraded crops."""
    networks = TaskNetworks(Segmenter(), Detector(), Classifier())
    for task, network in zip(("seg", "det", "cls"), networks, strict=True):
        network.load_state_dict(read_ema(work, f"{prefix}{task}"))
    return networks


def save_task_networks(networks: TaskNetworks, file: Path) -> None:
    """Write the networks to one safetensors file in float16."""
    state = {
        f"{name}.{key}": value.detach().half().contiguous()
        for name, network in networks._asdict().items()
        for key, value in network.state_dict().items()
    }
    with written_beside(file) as beside:
        save_file(state, beside)


def load_task_networks(file: Path) -> TaskNetworks:
    """Read what ``save_task_networks`` wrote, in float32 and evaluation mode."""
    state = {key: value.float() for key, value in load_file(file).items()}
    networks = TaskNetworks(Segmenter(), Detector(), Classifier())
    for name, network in networks._asdict().items():
        prefix = f"{name}."
        network.load_state_dict(
            {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        )
        network.eval().requires_grad_(False)
    return networks
