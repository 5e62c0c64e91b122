"""The camera's detail: the gain that says how much of it to keep, and how it is added.

The network works on a reduced frame. What the reduction lost of the camera's frame is added to the
enlarged result, as much of it as the decoder says: all in a clean frame, more in haze, none in
noise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unirestore_ros.model.config import Config

# Side of the squares around a place, in pixels of the features, which have half the image's.
_CELLS = 8


class DetailGain(nn.Module):
    """Predicts the gain (B, 1, H, W), at least 0, from the decoder's last features (B, C, H/2, W/2)
    and the finest skip, of the same size; H and W are multiples of 16.

    A product of two views of them finds the noise of each place. What it is like in the squares of
    16 pixels around weighs it: a flat sky alone does not show whether a frame is noisy. Fresh
    weights give 1 everywhere: softplus(log(e - 1)) is 1.
    """

    def __init__(self, features: int, skip: int, width: int = 12) -> None:
        super().__init__()
        self.left, self.right = (_view(features + skip, width) for _ in range(2))
        self.around = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, width, 1)
        )
        self.conv_out = nn.Conv2d(width, 4, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        assert self.conv_out.bias is not None
        nn.init.constant_(self.conv_out.bias, math.log(math.e - 1))

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        both = torch.cat([features, skip], dim=1)
        here = self.left(both) * self.right(both)
        around = self.around(F.avg_pool2d(here, _CELLS))
        around = F.interpolate(
            around, scale_factor=float(_CELLS), mode="bilinear", align_corners=False
        )
        return F.softplus(F.pixel_shuffle(self.conv_out(here * around), 2))


def _view(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 1), nn.Conv2d(width, width, 3, padding=1, groups=width)
    )


def fresh_gain(config: Config) -> DetailGain:
    """Return the layer that a network of that configuration has, untrained."""
    return DetailGain(config.tfa.feature_channels[-1], config.skip_channels[0])


def fused(restored: Tensor, gain: Tensor | None, frame: Tensor, reduced: Tensor) -> Tensor:
    """Return the restored image at the camera's size: (B, 3, H, W).

    ``restored`` (B, 3, h, w) and ``gain`` (B, 1, h, w; None: 1) are the decoder's, ``frame``
    (B, 3, H, W) is the camera's and ``reduced`` (B, 3, h, w) what the network saw of it.
    """
    detail = frame - enlarged(reduced, frame)
    if gain is not None:
        detail = enlarged(gain, frame) * detail
    return enlarged(restored, frame) + detail


def enlarged(image: Tensor, like: Tensor) -> Tensor:
    """Interpolate bilinearly to the height and width of ``like``."""
    return F.interpolate(image, size=like.shape[-2:], mode="bilinear", align_corners=False)


@torch.no_grad()
def reduced_by(frame: Tensor, factor: int) -> Tensor:
    """Average each square of ``factor`` pixels: (B, 3, H, W) -> (B, 3, H/factor, W/factor)."""
    return F.avg_pool2d(frame, factor)
