"""Building blocks: the NAFBlock, and CFRM, which restores the encoder's features.

NAFBlock: Chen et al., Simple Baselines for Image Restoration, ECCV 2022. CFRM: the Complementary
Feature Restoration Module of UniRestore. Every block keeps the shape (B, C, H, W) of its input.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of a (B, C, H, W) tensor."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(
            x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps
        )
        return x.permute(0, 3, 1, 2)


def simple_gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=1)
    return a * b


class NAFBlock(nn.Module):
    """(B, C, H, W) -> the same shape; an identity until ``beta`` and ``gamma`` have learned."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.norm1 = LayerNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, wide, 1)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
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
    """Widen, then weigh channels within each group and the groups against each other.

    (B, C, H, W) -> the same shape. Neither attention has a sigmoid; the weights of the groups are
    computed from the tensor that the attention within the groups has already scaled.
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
        # The mean of the scaled tensor is the scaled mean, so the tensor is multiplied only once.
        between = self.inter_group_attn[1](mean * scale)
        scale = scale * between.repeat_interleave(y.shape[1] // self.groups, dim=1)
        return self.nafblock(self.pwconv(y * scale) + x)


class CFRM(nn.Sequential):
    """A run of NAFBlocks and one group-attention block: (B, C, H, W) -> the same shape."""

    def __init__(self, channels: int, naf_blocks: int, expand: int, groups: int) -> None:
        super().__init__(
            *(NAFBlock(channels) for _ in range(naf_blocks)),
            GroupAttentionBlock(channels, expand, groups),
        )
