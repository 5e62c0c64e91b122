"""TFA, the Task Feature Adapter: fuses a restored skip into the decoder, steered by a prompt."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Gates(NamedTuple):
    """What an adapter takes from its skip, the same for every task: three (B, T, C) tensors."""

    filter: Tensor
    info: Tensor
    content: Tensor


class PooledGate(nn.Sequential):
    """InstanceNorm, 3x3 conv, GELU, 3x3 conv, global average: (B, C, H, W) -> (B, T, C).

    The second convolution is averaged over the image at once. A mean of a convolution is a linear
    map of the means of its nine shifted input windows, so these are taken instead: the same value
    for a ninth of an operation per pixel.
    """

    def __init__(self, channels: int, prompt_length: int) -> None:
        super().__init__(
            nn.InstanceNorm2d(channels),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(channels, prompt_length * channels, 3, padding=1),
        )

    def forward(self, skip: Tensor) -> Tensor:
        norm, conv, gelu, last = self
        assert isinstance(last, nn.Conv2d)
        windows = shifted_window_means(gelu(conv(norm(skip))).float())
        pooled = F.linear(windows.flatten(1), last.weight.flatten(1), last.bias)
        return pooled.view(skip.shape[0], -1, skip.shape[1])


def shifted_window_means(x: Tensor) -> Tensor:
    """Average the nine windows that a 3x3 convolution with padding 1 slides over ``x``.

    (B, C, H, W) -> (B, C, 9), each the sum over a window divided by H*W. With zero padding, a
    window that is shifted up misses the last row, one shifted down the first; likewise columns.
    """
    height, width = x.shape[-2:]
    rows, columns = x.sum(dim=-1), x.sum(dim=-2)
    total = rows.sum(dim=-1)[..., None, None]
    # Slices, not indices made from the sizes: graphs are exported for any size.
    row = _last_none_first(rows)[..., :, None]
    column = _last_none_first(columns)[..., None, :]
    corner = _last_none_first(_last_none_first(x).mT).mT
    return (total - row - column + corner).flatten(-2) / (height * width)


def _last_none_first(x: Tensor) -> Tensor:
    """(..., n) -> (..., 3): the last value, 0, the first."""
    first, last = x[..., :1], x[..., -1:]
    return torch.cat([last, torch.zeros_like(first), first], dim=-1)


class TaskFeatureAdapter(nn.Module):
    """Adapts decoder features x (B, D, h, w) with a skip s (B, C, h, w) and a prompt (B, T, C)."""

    def __init__(
        self,
        feature_channels: int,
        skip_channels: int,
        prompt_length: int,
        next_channels: int | None,
        gate_pool: int,
    ) -> None:
        super().__init__()
        c = skip_channels
        self.gate_pool = gate_pool
        self.filter_gate = PooledGate(c, prompt_length)
        self.info_gate = PooledGate(c, prompt_length)
        self.content_trans = PooledGate(c, prompt_length)
        self.t_gate1 = nn.Conv2d(c, c, 1)
        self.t_gate2 = nn.Conv2d(c, c, 1)
        self.out_gate = nn.Sequential(nn.Linear(prompt_length * c, c), nn.Tanh())
        self.conv_out = nn.Conv2d(feature_channels + c, feature_channels, 1)
        self.prompt_trans = (
            nn.Sequential(nn.Linear(c, next_channels), nn.GELU()) if next_channels else None
        )
        self._init_prompt_gain()

    @torch.no_grad()
    def _init_prompt_gain(self) -> None:
        """Multiply the fresh layers that read the prompt by C, to undo the softmax's 1/C.

        Without it, a hundred-thousandth of the prompt reaches the finest adapter.
        """
        readers = [self.out_gate[0]]
        if self.prompt_trans is not None:
            readers.append(self.prompt_trans[0])
        for linear in readers:
            assert isinstance(linear, nn.Linear)
            linear.weight.mul_(self.t_gate1.in_channels)

    def gates(self, skip: Tensor) -> Gates:
        """Compute the three gates of a skip (B, C, H, W), which no prompt touches."""
        if self.gate_pool > 1:
            skip = F.avg_pool2d(skip, self.gate_pool)
        return Gates(
            self.filter_gate(skip).softmax(dim=-1),
            self.info_gate(skip).softmax(dim=-1),
            self.content_trans(skip).tanh(),
        )

    def forward(
        self, x: Tensor, skip: Tensor, gates: Gates, prompt: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Adapt x; returns x' (B, D, h, w) and the next adapter's prompt (None for the last)."""
        # Like an LSTM's cell: keep a part of the old state, add a part of the new content.
        prompt = gates.filter * prompt + gates.info * gates.content
        out = self.out_gate(prompt.flatten(1))[..., None, None]
        skip = skip + self.t_gate2(out * self.t_gate1(skip))
        x = x + self.conv_out(torch.cat([x, skip], dim=1))
        return x, self.prompt_trans(prompt) if self.prompt_trans is not None else None
