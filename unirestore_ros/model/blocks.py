"""Building blocks: the NAFBlock, and CFRM, which restores the encoder's features.

NAFBlock: Chen et al., Simple Baselines for Image Restoration, ECCV 2022. CFRM: the Complementary
Feature Restoration Module of UniRestore. Every block keeps the shape (B, C, H, W) of its input.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LayerNorm2d(nn.LayerNorm):
    """Normalises the channels of each pixel of a (B, C, H, W) tensor."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(
            x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps
        )
        return x.permute(0, 3, 1, 2)


def simple_gate(x: Tensor) -> Tensor:
    """Multiply one half of the channels by the other: (B, 2C, H, W) -> (B, C, H, W)."""
    a, b = x.chunk(2, dim=1)
    return a * b


class NAFBlock(nn.Module):
    """Two gated residual branches: depth-wise convolution with channel attention, feed-forward.

    An identity until the residual scales ``beta`` and ``gamma``, which start at zero, have learned.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 2 * channels  # both gates halve it again
        self.norm1 = LayerNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, wide, 1)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        # Simplified channel attention: no sigmoid, as published.
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1))
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.norm2 = LayerNorm2d(channels)
        self.conv4 = nn.Conv2d(channels, wide, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = simple_gate(self.conv2(self.conv1(self.norm1(x))))
        x = x + self.conv3(y * self.sca(y)) * self.beta
        y = simple_gate(self.conv4(self.norm2(x)))
        return x + self.conv5(y) * self.gamma


class GroupAttentionBlock(nn.Module):
    """Widens, weighs the channels of each group, then the groups against each other, and narrows.

    Neither attention has a sigmoid. The weights of the groups are computed from the tensor that the
    attention within the groups has already scaled.
    """

    def __init__(self, channels: int, expand: int, groups: int) -> None:
        super().__init__()
        wide = expand * channels
        self.groups = groups
        self.conv_in = nn.Conv2d(channels, wide, 1)
        self.group_norm = nn.GroupNorm(groups, wide, eps=1e-5)
        self.group_conv = nn.Conv2d(wide, wide, 3, padding=1, groups=groups)
        self.intra_group_attn = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, wide, 1, groups=groups)
        )
        self.inter_group_attn = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, groups, 1))
        self.pwconv = nn.Conv2d(wide, channels, 1)
        self.nafblock = NAFBlock(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.group_conv(self.group_norm(self.conv_in(x))))
        pool, within = self.intra_group_attn
        mean = pool(y)
        scale = within(mean)
        # The mean of the scaled tensor is the scaled mean, so that the large tensor is multiplied
        # once, by the product of both scales, and pooled once.
        between = self.inter_group_attn[1](mean * scale)
        scale = scale * between.repeat_interleave(y.shape[1] // self.groups, dim=1)
        return self.nafblock(self.pwconv(y * scale) + x)


class CFRM(nn.Sequential):
    """A run of NAFBlocks, then one group-attention block."""

    def __init__(self, channels: int, naf_blocks: int, expand: int, groups: int) -> None:
        super().__init__(
            *(NAFBlock(channels) for _ in range(naf_blocks)),
            GroupAttentionBlock(channels, expand, groups),
        )
