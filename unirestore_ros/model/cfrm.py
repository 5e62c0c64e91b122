"""CFRM, the Complementary Feature Restoration Module: cleans the encoder's features."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from unirestore_ros.model.naf import NAFBlock


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
