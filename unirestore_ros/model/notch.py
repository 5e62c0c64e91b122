"""A fixed filter that takes the 2x2 grid out of what a pixel shuffle made.

The four pixels of a cell come from four rows of the last convolution's weights, which nothing keeps
alike: their local means differ, and that difference is a grid with a period of two pixels. It is
estimated and subtracted, without training: the image is high-passed, so that a slope is not taken
for a difference; its mean is taken for each phase and colour in overlapping windows; and the means
are enlarged bilinearly.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

WINDOW = 32
"""Side in pixels of a window in which a phase's mean is taken."""
STEP = 16
"""Pixels between the windows' corners; image sides must be multiples of it."""
_COLOURS = 3


class PhaseNotch(nn.Module):
    """Cells (B, 12, H/2, W/2), as they go into a pixel shuffle by 2 -> the same without the grid.

    Channel 4 * colour + 2 * row + column is that pixel of each cell. No weight of it is trained or
    stored.
    """

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", _window_means(), persistent=False)

    def forward(self, cells: Tensor) -> Tensor:
        step = STEP // 2
        means = F.conv2d(cells, self.weight, stride=step, groups=_COLOURS)
        # A window's centre lies a window's half from the border: repeated once, the outermost means
        # reach beyond it, and half a step of what is enlarged is cut off again.
        means = F.pad(means, (1, 1, 1, 1), mode="replicate")
        grid = F.interpolate(means, scale_factor=float(step), mode="bilinear", align_corners=False)
        margin = step // 2
        return cells - grid[..., margin:-margin, margin:-margin]


def _window_means() -> Tensor:
    """Weights (12, 4, WINDOW/2, WINDOW/2) of the convolution from cells to the high-passed mean of
    each phase: the mean of a phase's pixels less the mean of their binomial 3x3 averages.

    Pixels at the window's border are left out: their averages reach out of it.
    """
    binomial = np.array([1, 2, 1]) / 4
    inside = np.zeros(WINDOW)
    inside[1:-1] = 1
    kernels = []
    for row in range(2):
        for column in range(2):
            rows, columns = (inside * (np.arange(WINDOW) % 2 == i) for i in (row, column))
            rows, columns = rows / rows.sum(), columns / columns.sum()
            around = [np.convolve(line, binomial, mode="same") for line in (rows, columns)]
            kernels.append(np.outer(rows, columns) - np.outer(*around))
    # from_numpy: on the CPU even where a network is built without memory, on the device "meta"
    pixels = torch.from_numpy(np.stack(kernels)[:, None]).float()
    return F.pixel_unshuffle(pixels, 2).repeat(_COLOURS, 1, 1, 1)
