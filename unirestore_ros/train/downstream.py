"""Small downstream networks, trained on clean images and then frozen: what the machine wants."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from unirestore_ros.files import written_beside
from unirestore_ros.model.heads import (
    Backbone,
    DetectionNetwork,
    ImageStem,
    Residual,
    SegmentationNetwork,
    enlarged,
    normed,
)
from unirestore_ros.tasks import DETECTION_CLASSES, SEGMENTATION_CLASSES, UNLABELLED
from unirestore_ros.train.labelled import Truth

STRIDE = 4
CROP = 48
"""Side of the box crops that are classified."""
LEAST_SIDE = 8
"""Boxes under this many pixels are not classified."""


class Segmenter(SegmentationNetwork):
    """Logits of the eleven classes, enlarged to the image's size."""

    class_weights: Tensor

    def __init__(self) -> None:
        super().__init__(len(SEGMENTATION_CLASSES), Backbone(ImageStem()))
        self.register_buffer("class_weights", torch.ones(len(SEGMENTATION_CLASSES)))

    def forward(self, images: Tensor) -> Tensor:
        return enlarged(self.logits(images), images)

    def loss(self, images: Tensor, batch: Truth) -> Tensor:
        """Cross-entropy at the cells' centres."""
        logits = self.logits(images).float()
        labels = batch.labels[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
        return F.cross_entropy(logits, labels, self.class_weights, ignore_index=UNLABELLED)


class Detector(DetectionNetwork):
    """Centres and boxes of the four kinds of thing."""

    def __init__(self) -> None:
        super().__init__(len(DETECTION_CLASSES), Backbone(ImageStem()))

    def loss(self, images: Tensor, batch: Truth) -> Tensor:
        logits, shapes = self(images)
        return detection_loss(logits.float(), shapes.float(), batch.boxes)


def detection_loss(logits: Tensor, shapes: Tensor, boxes: list[Tensor]) -> Tensor:
    """Of heat maps (B, K, h, w) and box maps (B, 4, h, w): CenterNet's, with L1 of the boxes."""
    heat, cells, targets = (
        tensor.to(logits.device) for tensor in detection_targets(boxes, logits.shape)
    )
    shape_loss = shapes.new_zeros(())
    if len(cells):
        found = shapes[cells[:, 0], :, cells[:, 1], cells[:, 2]]
        shape_loss = F.l1_loss(found, targets)
    return centre_loss(logits, heat, len(cells)) + 0.5 * shape_loss


def class_weights(counts: Tensor) -> Tensor:
    """Pixels (K,) of each class -> its weight: the less the commoner it is, by the root of its
    share."""
    weights = (counts / counts.sum() + 1e-3).rsqrt()
    return weights / weights.mean()


def detection_targets(boxes: list[Tensor], shape: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
    """Heat maps with a Gaussian on each centre; cells (N, 3): batch, row, column; boxes (N, 4)."""
    heat = torch.zeros(shape)
    rows, columns = torch.arange(shape[2])[:, None], torch.arange(shape[3])[None, :]
    cells, targets = [], []
    for index, listed in enumerate(boxes):
        for kind, x, y, width, height in listed.tolist():
            if min(width, height) < 1:
                continue
            u, v = (x + width / 2) / STRIDE, (y + height / 2) / STRIDE
            column, row = min(int(u), shape[3] - 1), min(int(v), shape[2] - 1)
            spread = max(0.7, 0.12 * min(width, height) / STRIDE)
            blob = torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * spread**2))
            heat[index, int(kind)] = torch.maximum(heat[index, int(kind)], blob)
            cells.append([index, row, column])
            size = torch.tensor([width, height]) / STRIDE
            targets.append(torch.cat([torch.tensor([u - column, v - row]), size.log()]))
    if not cells:
        return heat, torch.zeros(0, 3, dtype=torch.long), torch.zeros(0, 4)
    return heat, torch.tensor(cells), torch.stack(targets)


def centre_loss(logits: Tensor, heat: Tensor, count: int) -> Tensor:
    """CenterNet's penalty-reduced focal loss, a sum over cells for each box."""
    p = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    peaks = heat.eq(1).float()
    positive = peaks * (1 - p).square() * p.log()
    negative = (1 - peaks) * (1 - heat).pow(4) * p.square() * (1 - p).log()
    return -(positive + negative).sum() / max(count, 1)


class Classifier(nn.Module):
    """Box crops (N, 3, 48, 48) in [0, 1] -> logits of the four kinds of thing."""

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
        crops, kinds = box_crops(images, batch.boxes)
        if not len(kinds):
            return images.sum() * 0
        return F.cross_entropy(self(crops), kinds)


def box_crops(images: Tensor, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Each box with a tenth of margin, resized: crops (N, 3, 48, 48) and their classes (N,)."""
    crops, kinds = [], []
    height, width = images.shape[-2:]
    for image, listed in zip(images, boxes, strict=True):
        for kind, x, y, w, h in listed.tolist():
            if min(w, h) < LEAST_SIDE:
                continue
            left, top = max(int(x - 0.1 * w), 0), max(int(y - 0.1 * h), 0)
            right, bottom = min(int(x + 1.1 * w) + 1, width), min(int(y + 1.1 * h) + 1, height)
            crop = image[None, :, top:bottom, left:right]
            crops.append(F.interpolate(crop, size=(CROP, CROP), mode="bilinear"))
            kinds.append(int(kind))
    if not crops:
        return images.new_zeros(0, 3, CROP, CROP), torch.zeros(
            0, dtype=torch.long, device=images.device
        )
    return torch.cat(crops), torch.tensor(kinds, device=images.device)


NETWORKS: dict[str, type[Segmenter] | type[Detector] | type[Classifier]] = {
    "seg": Segmenter,
    "det": Detector,
    "cls": Classifier,
}
NEEDS_BOXES = ("det", "cls")
Downstream = Segmenter | Detector | Classifier


class Downstreams(NamedTuple):
    """The three networks, trained."""

    segmenter: Segmenter
    detector: Detector
    classifier: Classifier


def save_downstream(networks: Downstreams, file: Path) -> None:
    """fp16, as the restorer's weights; written beside its place and then renamed."""
    state = {
        f"{name}.{key}": value.detach().half().contiguous()
        for name, network in networks._asdict().items()
        for key, value in network.state_dict().items()
    }
    with written_beside(file) as beside:
        save_file(state, beside)


def load_downstream(file: Path) -> Downstreams:
    """What ``save_downstream`` wrote, in float32 and evaluation mode."""
    state = {key: value.float() for key, value in load_file(file).items()}
    networks = Downstreams(Segmenter(), Detector(), Classifier())
    for name, network in networks._asdict().items():
        prefix = f"{name}."
        network.load_state_dict(
            {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        )
        network.eval().requires_grad_(False)
    return networks
