"""Up-sampling, exactly, in the form that is quick or that a compiler takes.

Nearest up-sampling and the 3x3 convolution after it are one transposed convolution: of the nine
taps that a pixel of the enlarged image is made from, some always fall on the same pixel of the
small one, and four different ones are left. That is four ninths of the operations. The bench has
it; bundles do not, since TensorRT cannot compile it in bfloat16.

A transposed convolution whose windows do not overlap is a 1x1 convolution and a shuffle of pixels.
"""

from __future__ import annotations

import torch
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional as F


class TransposedUpsample(nn.Module):
    """(B, C, H, W) -> (B, D, 2H, 2W), in the place of a diffusers Upsample2D."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(
            conv.in_channels, conv.out_channels, 4, stride=2, padding=1, device="meta"
        )
        weight = _merged(_merged(conv.weight.data).mT).mT
        self.conv.weight = nn.Parameter(weight.transpose(0, 1).contiguous(), requires_grad=False)
        assert conv.bias is not None
        self.conv.bias = nn.Parameter(conv.bias.data.clone(), requires_grad=False)

    def forward(self, x: Tensor, output_size: int | None = None) -> Tensor:
        if output_size is not None:
            raise ValueError("only doubles the size: image sides must be multiples of 64")
        return self.conv(x)


class ShuffledUpsample(nn.Module):
    """(B, C, H, W) -> (B, D, kH, kW), in the place of a ConvTranspose2d of kernel and stride k."""

    def __init__(self, conv: nn.ConvTranspose2d) -> None:
        super().__init__()
        kernel, stride = tuple(conv.kernel_size), tuple(conv.stride)
        if kernel != stride or kernel[0] != kernel[1] or conv.groups != 1:
            raise ValueError(f"kernel {kernel} and stride {stride} must be one square")
        self.factor = int(kernel[0])
        wide = conv.out_channels * self.factor**2
        self.conv = nn.Conv2d(conv.in_channels, wide, 1, device="meta")
        weight = conv.weight.data.permute(1, 2, 3, 0).reshape(wide, conv.in_channels, 1, 1)
        self.conv.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
        assert conv.bias is not None
        bias = conv.bias.data.repeat_interleave(self.factor**2)
        self.conv.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), self.factor)


def _merged(weight: Tensor) -> Tensor:
    """Three taps on the enlarged image -> four on the small one, along the last axis."""
    first, middle, last = weight.unbind(-1)
    return torch.stack([last, middle + last, first + middle, first], dim=-1)


def transpose_upsampling(module: nn.Module) -> None:
    """Replace every up-sampling of a network by its transposed convolution."""
    for name, child in module.named_children():
        if isinstance(child, Upsample2D):
            conv = child.conv
            assert isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3)
            setattr(module, name, TransposedUpsample(conv))
        else:
            transpose_upsampling(child)
