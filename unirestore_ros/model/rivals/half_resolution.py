"""What every rival is built on: a body at stride 2, so that all pay for resolution as `tiny`."""

from __future__ import annotations

import abc

from torch import Tensor, nn
from torch.nn import functional as F

from unirestore_ros.model.unirestore import pad_to_multiple


class HalfResolution(nn.Module, abc.ABC):
    """Images (B, 3, H, W) in [0, 1] of any size -> restored images of that size, not clamped.

    Pixel-unshuffle by 2 and a convolution (written as the one strided convolution that they are),
    the body, a convolution and a pixel-shuffle; what comes out is added to the image. The last
    convolution starts at zero: training starts from the degraded image, as that of `tiny` does.
    """

    def __init__(self, first: int, last: int, multiple: int, kernel: int = 3) -> None:
        """``first``, ``last``: channels that the body takes and gives; ``multiple``: of the sides
        that it takes; ``kernel``: of the first convolution, in cells of 2x2 pixels."""
        super().__init__()
        self.multiple = multiple
        self.stem = nn.Conv2d(3, first, 2 * kernel, stride=2, padding=kernel - 1)
        self.ending = nn.Conv2d(last, 12, 3, padding=1)
        for parameter in self.ending.parameters():
            nn.init.zeros_(parameter)

    @abc.abstractmethod
    def body(self, x: Tensor) -> Tensor:
        """(B, first, H/2, W/2) -> (B, last, H/2, W/2)."""

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        padded = pad_to_multiple(images, self.multiple)
        change = F.pixel_shuffle(self.ending(self.body(self.stem(2 * padded - 1))), 2)
        return (padded + change)[..., :height, :width]
