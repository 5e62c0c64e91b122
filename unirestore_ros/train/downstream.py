"""Small downstream networks, trained on clean images and then frozen: what the machine wants."""

from __future__ import annotations

import torch
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from torch import Tensor, nn
from torch.nn import functional as F

from unirestore_ros.train.labelled import (
    BOX_CLASSES,
    SEGMENTATION_CLASSES,
    UNLABELLED,
    LabelledBatch,
)

STRIDE = 4
CROP = 48
"""Side of the box crops that are classified."""
LEAST_SIDE = 8
"""Boxes under this many pixels are not classified."""


class Backbone(nn.Module):
    """Images (B, 3, H, W) in [0, 1] -> features (B, 48, H/4, W/4) with context from stride 16."""

    channels = 48

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 48, 8, stride=4, padding=2)
        self.fine = _blocks(48, 2)
        self.down1, self.middle = nn.Conv2d(48, 64, 2, 2), _blocks(64, 1)
        self.down2, self.coarse = nn.Conv2d(64, 96, 2, 2), _blocks(96, 2)
        self.up2, self.up1 = nn.Conv2d(96, 64, 1), nn.Conv2d(64, 48, 1)
        self.merge = _blocks(48, 1)

    def forward(self, images: Tensor) -> Tensor:
        fine = self.fine(self.stem(images * 2 - 1))
        middle = self.middle(self.down1(fine))
        coarse = self.coarse(self.down2(middle))
        middle = middle + _enlarged(self.up2(coarse), middle)
        return self.merge(fine + _enlarged(self.up1(middle), fine))


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(AutoencoderTinyBlock(channels, channels, "relu") for _ in range(count)))


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class Segmenter(nn.Module):
    """Logits of the eleven classes at a quarter of the resolution, enlarged to the image's."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Conv2d(Backbone.channels, SEGMENTATION_CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        return _enlarged(self.head(self.backbone(images)), images)

    def loss(self, images: Tensor, batch: LabelledBatch) -> Tensor:
        return F.cross_entropy(self(images), batch.labels, ignore_index=UNLABELLED)


class Detector(nn.Module):
    """CenterNet's idea (Zhou et al., Objects as Points, 2019): a heat map of centres for each class
    and, at every cell, offset of the centre and log size of the box, in cells."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.heat = nn.Conv2d(Backbone.channels, len(BOX_CLASSES), 3, padding=1)
        self.shape = nn.Conv2d(Backbone.channels, 4, 3, padding=1)
        assert self.heat.bias is not None
        nn.init.constant_(self.heat.bias, -3.0)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, 4, H/4, W/4) and boxes (B, 4, H/4, W/4): dx, dy, log w, log h."""
        features = self.backbone(images)
        return self.heat(features), self.shape(features)

    def loss(self, images: Tensor, batch: LabelledBatch) -> Tensor:
        logits, shapes = self(images)
        made = detection_targets(batch.boxes, logits.shape)
        heat, cells, targets = (tensor.to(logits.device) for tensor in made)
        shape_loss = shapes.new_zeros(())
        if len(cells):
            found = shapes[cells[:, 0], :, cells[:, 1], cells[:, 2]]
            shape_loss = F.l1_loss(found, targets)
        return centre_loss(logits, heat, len(cells)) + 0.5 * shape_loss


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
            nn.Conv2d(3, 32, 4, 2, 1), _blocks(32, 1), nn.Conv2d(32, 64, 2, 2), _blocks(64, 1),
            nn.Conv2d(64, 96, 2, 2), _blocks(96, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(96, len(BOX_CLASSES)),
        )  # fmt: skip

    def forward(self, crops: Tensor) -> Tensor:
        return self.layers(crops * 2 - 1)

    def loss(self, images: Tensor, batch: LabelledBatch) -> Tensor:
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
