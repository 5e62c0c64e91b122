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


class DetailGain(nn.Module):
    """Predicts the gain (B, 1, H, W), at least 0, from the last features (B, C, H/2, W/2).

    Fresh weights give 1 everywhere: softplus(log(e - 1)) is 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        nn.init.zeros_(self.conv.weight)
        assert self.conv.bias is not None
        nn.init.constant_(self.conv.bias, math.log(math.e - 1))

    def forward(self, features: Tensor) -> Tensor:
        return F.softplus(F.pixel_shuffle(self.conv(features), 2))


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
