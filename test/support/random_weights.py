"""Random weights for a network whose training starts with zeros."""

from __future__ import annotations

from torch import nn


def fill_zeros(network: nn.Module, deviation: float) -> None:
    """Draw every parameter that is zero throughout, so that every part moves the output."""
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=deviation)
