"""NAFNet (Chen et al., Simple Baselines for Image Restoration, ECCV 2022), narrow."""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn
from torch.nn import functional as F

from unirestore_ros.model.naf import NAFBlock
from unirestore_ros.model.rivals.half_resolution import HalfResolution


@dataclasses.dataclass(frozen=True)
class NAFNetConfig:
    """Width at stride 2, doubled at each level; NAFBlocks of each level, finest first."""

    width: int = 24
    encoder: tuple[int, ...] = (2, 2, 4)
    middle: int = 2
    decoder: tuple[int, ...] = (4, 3, 4)


class NAFNet(HalfResolution):
    """The published U-shape: strided convolutions down, 1x1 and pixel-shuffle up, skips added."""

    def __init__(self, config: NAFNetConfig) -> None:
        levels = len(config.encoder)
        super().__init__(config.width, config.width, multiple=2 ** (levels + 1))
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

    def body(self, x: Tensor) -> Tensor:
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
