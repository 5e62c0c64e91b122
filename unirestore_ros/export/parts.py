"""The three graphs of a bundle as modules: trunk, decoder, adapter. uint8 images in and out.

The trunk runs once a frame and holds everything that no prompt touches; decoder and adapter share
its outputs on the device. Names of inputs and outputs are the contract with ``engine``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unirestore_ros.engine.backends.parts import GAIN
from unirestore_ros.model import UniRestore
from unirestore_ros.model.tfa import Gates
from unirestore_ros.model.unirestore import LEVELS

SKIPS = tuple(f"skip{i}" for i in range(LEVELS))
"""Finest first, as the encoder makes them."""


def gate_names(levels: int) -> tuple[str, ...]:
    """Name the gates' fields of the first ``levels`` adapters, coarsest first."""
    return tuple(f"tfa{i}_{field}" for i in range(levels) for field in Gates._fields)


class Spatial(NamedTuple):
    """Where a tensor has its height (its width follows), and at which stride of the frame."""

    axis: int
    stride: int


BETWEEN = {"stem": Spatial(2, 8), **{name: Spatial(2, 2 << i) for i, name in enumerate(SKIPS)}}
"""The spatial tensors that the trunk gives to the others."""


class Part(nn.Module):
    """A graph to export, for any size; its inputs and outputs by name, in order.

    ``dtype`` is that of its convolutions: features of another part come in it, or are cast to it.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dtype: torch.dtype
    spatial: Mapping[str, Spatial]
    """By input and output, as far as they have height and width."""


class Trunk(Part):
    """Frame (1, H, W, 3) uint8 RGB, H and W multiples of ``config.multiple`` -> decoder stem, skips
    and gates."""

    inputs, outputs = ("frame",), ("stem", *SKIPS, *gate_names(LEVELS))

    def __init__(self, network: UniRestore, dtype: torch.dtype, steps: int) -> None:
        super().__init__()
        self.network, self.dtype, self.steps = network, dtype, steps
        self.spatial = {"frame": Spatial(1, 1), **BETWEEN}

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        # The cast comes first: TensorRT takes bytes as an input that is cast, and nowhere else.
        image = frame.float().permute(0, 3, 1, 2) / 255
        net = self.network
        z0, skips = net.encode(image)
        stem = net.autoencoder.from_latent(net.denoise(z0, self.steps))
        gates = [value for level in net.gates(skips) for value in level]
        return (stem, *skips, *gates)


class Decoder(Part):
    """Trunk outputs and a prompt (1, T, C) -> restored image (1, H, W, 3) uint8 RGB; and, of a
    network that predicts it, the detail gain (1, H, W, 1) float32."""

    inputs = ("stem", *SKIPS, *gate_names(LEVELS), "prompt")

    def __init__(self, network: UniRestore, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype
        self.outputs = ("image",) if network.detail is None else ("image", GAIN)
        self.spatial = {**BETWEEN, "image": Spatial(1, 1), GAIN: Spatial(1, 1)}

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        given = dict(zip(self.inputs, tensors, strict=True))
        stem, skips, gates = _features_and_gates(given, LEVELS, self.dtype)
        features = self.network.features_from(stem, skips, gates, given["prompt"])
        image = self.network.autoencoder.to_image(features).float()
        levels = torch.round(image.clamp(0, 1) * 255).permute(0, 2, 3, 1).to(torch.uint8)
        gain = self.network.gain_from(features, skips)
        return levels if gain is None else (levels, gain.float().permute(0, 2, 3, 1))


class Adapter(Part):
    """Trunk outputs and a prompt (1, T, C) -> features (1, H/s, W/s, c) float32 at one stride s.

    ``projection``: a 1x1 convolution that ends it where the model's features are wider than a
    published map may be.
    """

    outputs = ("features",)

    def __init__(
        self,
        network: UniRestore,
        dtype: torch.dtype,
        stride: int,
        projection: nn.Conv2d | None = None,
    ) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype
        self.projection = None if projection is None else copy.deepcopy(projection).to(dtype)
        self.levels = network.level_of(stride) + 1
        self.spatial = {**BETWEEN, "features": Spatial(1, stride)}
        self.inputs = ("stem", *SKIPS[-self.levels :], *gate_names(self.levels), "prompt")

    def forward(self, *tensors: Tensor) -> Tensor:
        given = dict(zip(self.inputs, tensors, strict=True))
        stem, skips, gates = _features_and_gates(given, self.levels, self.dtype)
        features = self.network.adapt_from(stem, skips, gates, given["prompt"])
        if self.projection is not None:
            features = self.projection(features)
        return features.permute(0, 2, 3, 1).contiguous().float()


def _features_and_gates(
    given: dict[str, Tensor], levels: int, dtype: torch.dtype
) -> tuple[Tensor, list[Tensor], list[Gates]]:
    skips = [given[name].to(dtype) for name in SKIPS[-levels:]]
    names = gate_names(levels)
    fields = len(Gates._fields)
    gates = [
        Gates(*(given[name] for name in names[i : i + fields]))
        for i in range(0, len(names), fields)
    ]
    return given["stem"].to(dtype), skips, gates
