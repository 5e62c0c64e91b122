"""An enhancer after URIE (Son et al., Universal Image Enhancement for Visual Recognition in the
Wild, ECCV 2020): trained for a recogniser, not for the eye."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unirestore_ros.model.heads import enlarged
from unirestore_ros.model.rivals.half_resolution import HalfResolution

GRID = 4
"""Cells a side in which an enhancement is chosen."""
REDUCTION = 16


@dataclasses.dataclass(frozen=True)
class URIEConfig:
    """The five published widths are 32, 64, 64, 32 and 16: twice and half the first."""

    width: int = 40


class Selector(nn.Module):
    """(B, C, H, W) -> how much of each of two streams to take, (2, B, C, H, W), summing to 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        cells = channels * GRID**2
        self.squeeze = nn.Sequential(nn.Linear(cells, cells // REDUCTION, bias=False), nn.ReLU())
        self.choose = nn.Linear(cells // REDUCTION, 2 * cells)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(x, GRID)
        choice = self.choose(self.squeeze(pooled.flatten(1))).view(len(x), 2, *pooled.shape[1:])
        shares = choice.softmax(dim=1).flatten(1, 2)
        whole = F.interpolate(shares, size=x.shape[-2:], mode="nearest")
        return whole.view(len(x), 2, *x.shape[1:]).transpose(0, 1)


class SelectiveEnhancement(nn.Module):
    """Two streams of which one keeps the image's own statistics (batch normalisation) and the other
    takes them away (instance normalisation), mixed by place and channel."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.kept = nn.Sequential(
            nn.BatchNorm2d(before), nn.LeakyReLU(), nn.Conv2d(before, after, 3, padding=1)
        )
        self.taken = nn.Sequential(
            nn.InstanceNorm2d(before), nn.LeakyReLU(), nn.Conv2d(before, after, 3, padding=1)
        )
        self.selector = Selector(after)

    def forward(self, x: Tensor) -> Tensor:
        kept, taken = self.kept(x), self.taken(x)
        first, second = self.selector(kept + taken)
        return kept * first + taken * second


class URIE(HalfResolution):
    """Two selective modules down, two up, skips concatenated. The published first convolution is
    9x9; this one 8x8 at stride 2."""

    def __init__(self, config: URIEConfig) -> None:
        width = config.width
        super().__init__(width, width // 2, multiple=8, kernel=4)
        self.down1 = SelectiveEnhancement(width, 2 * width)
        self.down2 = SelectiveEnhancement(2 * width, 2 * width)
        self.up1 = SelectiveEnhancement(4 * width, width)
        self.up2 = SelectiveEnhancement(2 * width, width // 2)

    def body(self, x: Tensor) -> Tensor:
        middle = self.down1(F.max_pool2d(x, 2))
        coarse = self.down2(F.max_pool2d(middle, 2))
        middle = self.up1(torch.cat([middle, enlarged(coarse, middle)], dim=1))
        return self.up2(torch.cat([x, enlarged(middle, x)], dim=1))
