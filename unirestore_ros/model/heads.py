"""Small networks for segmentation and detection, on an image or on the adapter's features.

The network is the same but for its stem. On images it is a task network, from whose loss prompts
learn; on features it is a head that the example consumers run.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from unirestore_ros.files import written_beside
from unirestore_ros.model.detail import enlarged

HEAD_KEY = "unirestore_head"
WIDTH = 48


class ImageStem(nn.Sequential):
    """Images (B, 3, H, W) in [0, 1] -> (B, 48, H/4, W/4)."""

    def __init__(self) -> None:
        super().__init__(
            normed(3, WIDTH // 2, stride=2), nn.ReLU(),
            normed(WIDTH // 2, WIDTH, stride=2), nn.ReLU(),
            Residual(WIDTH),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images * 2 - 1)


class FeatureStem(nn.Conv2d):
    """Features (B, C, h, w) -> (B, 48, h, w), after they were brought to mean 0 and variance 1."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels, WIDTH, 1)
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("deviation", torch.ones(1, channels, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        return super().forward((features - self.mean) / self.deviation)


class Backbone(nn.Module):
    """A stem, then context from a quarter of its resolution: (B, 48, h, w) at the stem's stride.

    Little is done at the finest stride: that is where the time goes, and on features the adapter
    has done it. Batch normalisation lets it train in minutes, and costs nothing afterwards: ONNX
    Runtime folds it into the convolutions.
    """

    channels = WIDTH

    def __init__(self, stem: ImageStem | FeatureStem) -> None:
        super().__init__()
        self.stem = stem
        self.down1 = nn.Sequential(normed(WIDTH, 64, stride=2), nn.ReLU(), Residual(64))
        self.down2 = nn.Sequential(normed(64, 96, stride=2), nn.ReLU(), Residual(96), Residual(96))
        self.up2, self.up1 = nn.Conv2d(96, 64, 1), nn.Conv2d(64, WIDTH, 1)
        self.merge = nn.Sequential(normed(WIDTH, WIDTH), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        fine = self.stem(x)
        middle = self.down1(fine)
        middle = middle + enlarged(self.up2(self.down2(middle)), middle)
        return self.merge(fine + enlarged(self.up1(middle), fine))


class Residual(nn.Module):
    """ResNet's basic block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = normed(channels, channels), normed(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


def normed(before: int, after: int, stride: int = 1) -> nn.Sequential:
    """Make a 3x3 convolution with batch normalisation."""
    conv = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after))


class SegmentationNetwork(nn.Module):
    """Logits (B, K, h, w) of K classes at the backbone's stride."""

    def __init__(self, classes: int, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Conv2d(WIDTH, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x)

    def logits(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


class DetectionNetwork(nn.Module):
    """CenterNet's idea (Zhou et al., Objects as Points, 2019): a heat map of centres for each class
    and, at every cell, the offset of the centre and the log size of the box."""

    def __init__(self, classes: int, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.heat = nn.Conv2d(WIDTH, classes, 3, padding=1)
        self.shape = nn.Conv2d(WIDTH, 4, 3, padding=1)
        assert self.heat.bias is not None
        nn.init.constant_(self.heat.bias, -3.0)  # centres are rare

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, K, h, w) and boxes (B, 4, h, w): dx, dy, log w, log h, in cells."""
        features = self.backbone(x)
        return self.heat(features), self.shape(features)

    def detect(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores (B, K, h, w), 0 but at the peaks of the heat maps, and boxes (B, 4, h, w):
        left, top, right, bottom, in cells."""
        logits, shapes = self(x)
        scores = logits.sigmoid()
        peaks = (scores == F.max_pool2d(scores, 3, stride=1, padding=1)).float()
        height, width = scores.shape[-2:]
        rows = torch.arange(height, dtype=torch.float32, device=x.device).view(1, 1, height, 1)
        columns = torch.arange(width, dtype=torch.float32, device=x.device).view(1, 1, 1, width)
        u, v = columns + shapes[:, 0:1], rows + shapes[:, 1:2]
        across, down = shapes[:, 2:3].exp() / 2, shapes[:, 3:4].exp() / 2
        return scores * peaks, torch.cat([u - across, v - down, u + across, v + down], 1)


@dataclasses.dataclass(frozen=True)
class HeadOrigin:
    """What a head was trained for: its task (long name) and classes, and on which features."""

    task: str
    classes: tuple[str, ...]
    stride: int
    channels: int
    weights_sha256: str  # of the restorer's weights: others give other features


Head = SegmentationNetwork | DetectionNetwork


def make_head(task: str, classes: int, channels: int) -> Head:
    """Make a fresh head for ``segmentation`` or ``detection``; ValueError for another task."""
    if task == "segmentation":
        return SegmentationNetwork(classes, Backbone(FeatureStem(channels)))
    if task == "detection":
        return DetectionNetwork(classes, Backbone(FeatureStem(channels)))
    raise ValueError(f"there is no head for {task}: there is one for segmentation and detection")


def save_head(head: nn.Module, origin: HeadOrigin, file: Path) -> None:
    """Write a head to a safetensors file in float16."""
    state = {key: value.detach().half().contiguous() for key, value in head.state_dict().items()}
    with written_beside(file) as beside:
        save_file(state, beside, {HEAD_KEY: json.dumps(dataclasses.asdict(origin))})


def load_head(file: Path) -> tuple[Head, HeadOrigin]:
    """Read what ``save_head`` wrote, in float32 and evaluation mode; else ValueError."""
    with safe_open(file, framework="pt") as stream:
        text = (stream.metadata() or {}).get(HEAD_KEY)
    if text is None:
        raise ValueError(f"{file} is not a head: it has no {HEAD_KEY}")
    values = json.loads(text)
    origin = HeadOrigin(**{**values, "classes": tuple(values["classes"])})
    head = make_head(origin.task, len(origin.classes), origin.channels)
    head.load_state_dict({key: value.float() for key, value in load_file(file).items()})
    return head.eval().requires_grad_(False), origin
