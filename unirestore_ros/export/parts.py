"""The three graphs of a bundle as modules: trunk, decoder, adapter. uint8 images in and out.

The trunk runs once a frame and holds everything that no prompt touches; decoder and adapter share
its outputs on the device. Names of inputs and outputs are the contract with ``engine``.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unirestore_ros.model import UniRestore
from unirestore_ros.model.detail import fused
from unirestore_ros.model.tfa import Gates
from unirestore_ros.model.unirestore import LEVELS, pad_to_multiple

Size = tuple[int, int]

SKIPS = tuple(f"skip{i}" for i in range(LEVELS))
"""Finest first, as the encoder makes them."""


def gate_names(levels: int) -> tuple[str, ...]:
    """Of the first ``levels`` adapters, coarsest first."""
    return tuple(f"tfa{i}_{field}" for i in range(levels) for field in Gates._fields)


class Part(nn.Module):
    """A graph to export; its inputs and outputs by name, in order.

    ``dtype`` is that of its convolutions: features of another part come in it, or are cast to it.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dtype: torch.dtype


class Trunk(Part):
    """Frame (1, H, W, 3) uint8 RGB -> decoder stem, skips, gates; and the frame at the working
    size (1, 3, h, w) in [0, 1] where that is smaller."""

    inputs = ("frame",)

    def __init__(
        self,
        network: UniRestore,
        dtype: torch.dtype,
        input_size: Size,
        working_size: Size,
        steps: int,
    ) -> None:
        super().__init__()
        self.network, self.dtype, self.steps = network, dtype, steps
        self.input_size, self.working_size = input_size, working_size
        working = () if input_size == working_size else ("working",)
        self.outputs = ("stem", *SKIPS, *gate_names(LEVELS), *working)

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        full = _to_unit(frame)
        image = full
        if self.input_size != self.working_size:
            image = _shrunk(full, self.working_size)
        net = self.network
        z0, skips = net.encode(pad_to_multiple(image, net.config.multiple))
        stem = net.autoencoder.from_latent(net.denoise(z0, self.steps))
        gates = [value for level in net.gates(skips) for value in level]
        working = () if image is full else (image,)
        return (stem, *skips, *gates, *working)


class Decoder(Part):
    """Trunk outputs and a prompt (1, T, C) -> restored image (1, H, W, 3) uint8 RGB; and, of a
    network that predicts it, the detail gain (1, h, w, 1) float32 at the working size.

    At a smaller working size the image is enlarged, and what the reduction lost of the frame is put
    back, times the gain.
    """

    def __init__(
        self, network: UniRestore, dtype: torch.dtype, input_size: Size, working_size: Size
    ) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype
        self.input_size, self.working_size = input_size, working_size
        self.outputs = ("image",) if network.detail is None else ("image", "detail_gain")
        frames = () if input_size == working_size else ("frame", "working")
        self.inputs = ("stem", *SKIPS, *gate_names(LEVELS), "prompt", *frames)

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        given = dict(zip(self.inputs, tensors, strict=True))
        stem, skips, gates = _features_and_gates(given, LEVELS, self.dtype)
        features = self.network.features_from(stem, skips, gates, given["prompt"])
        width, height = self.working_size
        image = self.network.autoencoder.to_image(features)[..., :height, :width].float()
        gain = self.network.gain_from(features, skips)
        if gain is not None:
            gain = gain[..., :height, :width].float()
        if "working" in given:
            image = fused(image, gain, _to_unit(given["frame"]), given["working"])
        if gain is None:
            return _to_bytes(image)
        return _to_bytes(image), gain.permute(0, 2, 3, 1)


class Adapter(Part):
    """Trunk outputs and a prompt (1, T, C) -> features (1, h, w, c) float32 at one stride.

    ``projection``: a 1x1 convolution that ends it where the model's features are wider than a
    published map may be.
    """

    outputs = ("features",)

    def __init__(
        self,
        network: UniRestore,
        dtype: torch.dtype,
        working_size: Size,
        stride: int,
        projection: nn.Conv2d | None = None,
    ) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype
        self.projection = None if projection is None else copy.deepcopy(projection).to(dtype)
        self.levels = network.level_of(stride) + 1
        self.crop = (working_size[1] // stride, working_size[0] // stride)
        self.inputs = ("stem", *SKIPS[-self.levels :], *gate_names(self.levels), "prompt")

    def forward(self, *tensors: Tensor) -> Tensor:
        given = dict(zip(self.inputs, tensors, strict=True))
        stem, skips, gates = _features_and_gates(given, self.levels, self.dtype)
        features = self.network.adapt_from(stem, skips, gates, given["prompt"])
        if self.projection is not None:
            features = self.projection(features)
        height, width = self.crop
        return features[..., :height, :width].permute(0, 2, 3, 1).contiguous().float()


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


def _to_unit(frame: Tensor) -> Tensor:
    """The cast comes first: TensorRT takes bytes as an input that is cast, and nowhere else."""
    return frame.float().permute(0, 3, 1, 2) / 255


def _to_bytes(image: Tensor) -> Tensor:
    levels = torch.round(image.float().clamp(0, 1) * 255)
    return levels.permute(0, 2, 3, 1).to(torch.uint8)


def _shrunk(image: Tensor, size: Size) -> Tensor:
    """Average over whole pixels as far as that goes: linear interpolation alone reads two pixels
    of each row and column, and passes the others over."""
    width, height = size
    factors = (image.shape[-2] // height, image.shape[-1] // width)
    if all(side % factor == 0 for side, factor in zip(image.shape[-2:], factors, strict=True)):
        image = F.avg_pool2d(image, factors) if max(factors) > 1 else image
    return image if image.shape[-2:] == (height, width) else _resize(image, size)


def _resize(image: Tensor, size: Size) -> Tensor:
    width, height = size
    return F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False)
