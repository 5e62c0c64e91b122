"""What UniRestore is compared with: one table of baselines and ablations, and their weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from unirestore_ros.files import written_beside
from unirestore_ros.model.blocks import NAFBlock
from unirestore_ros.model.config import TINY, Config
from unirestore_ros.model.unirestore import LEVELS, UniRestore, pad_to_multiple
from unirestore_ros.model.weights import SHIPPED_WEIGHTS, WeightsError, check_tensors, read_metadata

# --- NAFNet


@dataclasses.dataclass(frozen=True)
class NAFNetConfig:
    """Width at stride 2, doubled at each level; NAFBlocks of each level, finest first."""

    width: int = 24
    encoder: tuple[int, ...] = (2, 2, 4)
    middle: int = 2
    decoder: tuple[int, ...] = (4, 3, 4)


class NAFNet(nn.Module):
    """Restores images (B, 3, H, W) in [0, 1] of any size, with about the compute of `tiny`.

    Chen et al., Simple Baselines for Image Restoration, ECCV 2022: strided convolutions down, 1x1
    and pixel-shuffle up, skips added. The U-shape works at stride 2, behind a pixel-unshuffle and a
    convolution (written as one strided convolution), so that it pays for resolution as `tiny` does,
    and the last convolution is zero at first, so that training starts from the degraded image, as
    there. The result is not clamped.
    """

    def __init__(self, config: NAFNetConfig) -> None:
        super().__init__()
        self.multiple = 2 ** (len(config.encoder) + 1)
        self.stem = nn.Conv2d(3, config.width, 6, stride=2, padding=2)
        self.ending = nn.Conv2d(config.width, 12, 3, padding=1)
        for parameter in self.ending.parameters():
            nn.init.zeros_(parameter)
        levels = len(config.encoder)
        widths = [config.width * 2**level for level in range(levels + 1)]
        self.encoders = nn.ModuleList(
            _blocks(width, count) for width, count in zip(widths, config.encoder, strict=False)
        )
        self.downs = nn.ModuleList(nn.Conv2d(width, 2 * width, 2, 2) for width in widths[:-1])
        self.middle = _blocks(widths[-1], config.middle)
        self.ups = nn.ModuleList(
            nn.Conv2d(2 * width, 4 * width, 1, bias=False) for width in widths[:-1]
        )
        self.decoders = nn.ModuleList(
            _blocks(width, count) for width, count in zip(widths, config.decoder, strict=False)
        )

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        padded = pad_to_multiple(images, self.multiple)
        change = F.pixel_shuffle(self.ending(self._body(self.stem(2 * padded - 1))), 2)
        return (padded + change)[..., :height, :width]

    def _body(self, x: Tensor) -> Tensor:
        """Map (B, width, H/2, W/2) to the same shape."""
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for level in reversed(range(len(skips))):
            x = F.pixel_shuffle(self.ups[level](x), 2) + skips[level]
            x = self.decoders[level](x)
        return x


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(channels) for _ in range(count)))


# --- ablations


class WithoutCFRM(UniRestore):
    """UniRestore without CFRM: the encoder's features go to latent and skips as they are."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.cfrm = nn.ModuleList(nn.Identity() for _ in range(LEVELS))


class SinglePrompt(UniRestore):
    """UniRestore with one prompt, shared by all tasks."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.share_prompt()

    def share_prompt(self) -> None:
        """Put perception's prompt, one parameter, under every task's name."""
        shared = self.prompts["ir"]
        for task in self.config.tasks:
            self.prompts[task] = shared


# --- weights on disk

BASELINES_FOLDER = SHIPPED_WEIGHTS / "baselines"
BASELINE_KEY = "unirestore_rival"  # the name that the files have had from the first
LEFT_OUT = ("noise",)  # large, and the same in every fresh network


@dataclasses.dataclass(frozen=True)
class Baseline:
    """How a network is made from its configuration, and the default configuration."""

    network: Callable[[Any], nn.Module]
    config: NAFNetConfig | Config

    def make(self) -> nn.Module:
        return self.network(self.config)

    def read(self, values: dict[str, Any]) -> nn.Module:
        """Make a network of the configuration that a file holds."""
        if isinstance(self.config, Config):
            return self.network(Config.from_dict(values))
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return self.network(NAFNetConfig(**fields))


BASELINES: Mapping[str, Baseline] = {
    "nafnet": Baseline(NAFNet, NAFNetConfig()),
    "unirestore-control": Baseline(UniRestore, TINY),
    "unirestore-without-cfrm": Baseline(WithoutCFRM, TINY),
    "unirestore-single-prompt": Baseline(SinglePrompt, TINY),
}


def save_baseline(name: str, network: nn.Module, training: Mapping[str, Any], file: Path) -> None:
    """Write weights in float16; ``training``: iterations, rate, losses: how it was trained."""
    state = {
        key: value.detach().half().clone(memory_format=torch.contiguous_format)
        for key, value in network.state_dict().items()
        if key not in LEFT_OUT and value.is_floating_point()
    }
    about = {
        "name": name,
        "config": dataclasses.asdict(BASELINES[name].config),
        "training": dict(training),
    }
    with written_beside(file) as beside:
        save_file(state, beside, {BASELINE_KEY: json.dumps(about)})


def read_baseline(file: Path) -> dict[str, Any]:
    """Read ``name``, ``config`` and ``training`` of a file; WeightsError for another kind."""
    text = read_metadata(file).get(BASELINE_KEY)
    if text is None:
        raise WeightsError(f"{file} holds no baseline's weights: it has no {BASELINE_KEY}")
    about: dict[str, Any] = json.loads(text)
    return about


def load_baseline(name: str, file: Path) -> nn.Module:
    """Read what ``save_baseline`` wrote under this name, in float32 and evaluation mode."""
    about = read_baseline(file)
    if about["name"] != name:
        raise WeightsError(f"{file} holds the weights of {about['name']}, not of {name}")
    network = BASELINES[name].read(about["config"])
    fresh = network.state_dict()
    state = {key: value.float() for key, value in load_file(file).items()}
    state |= {k: v for k, v in fresh.items() if k in LEFT_OUT or not v.is_floating_point()}
    floats = {key: value for key, value in state.items() if value.is_floating_point()}
    shapes = {key: value.shape for key, value in fresh.items() if value.is_floating_point()}
    check_tensors(floats, shapes, str(file))
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)
