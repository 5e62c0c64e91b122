"""Where a network runs, and in which layout."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def placed(network: Network, device: torch.device | str = "cpu") -> Network:
    """The same network on the device, in the layout that convolutions are fastest in."""
    moved: Network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved
