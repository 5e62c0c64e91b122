"""The two autoencoders behind one small interface, cut where CFRM and TFA go in.

Encoder: ``stem`` -> ``down(0)`` -> [CFRM] -> ``down(1)`` -> [CFRM] -> ``down(2)`` -> [CFRM] ->
``to_latent``. Decoder: ``from_latent`` -> [TFA] -> ``up(0)`` -> [TFA] -> ``up(1)`` -> [TFA] ->
``up(2)`` -> ``to_image``. Images are (B, 3, H, W) in [0, 1], not clamped on the way out;
latents are (B, 4, H/8, W/8), the posterior's mode, scaled.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from unirestore_ros.model.blocks import NAFBlock
from unirestore_ros.model.config import AutoencoderConfig
from unirestore_ros.model.notch import PhaseNotch

LATENT_CHANNELS = 4
LATENT_STRIDE = 8


class KLAutoencoder(nn.Module):
    """diffusers' AutoencoderKL, run level by level."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        levels = len(config.channels)
        kinds: dict[str, Any] = {
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
        }
        self.vae = AutoencoderKL(
            block_out_channels=config.channels,
            layers_per_block=config.layers_per_block,
            latent_channels=LATENT_CHANNELS,
            norm_num_groups=config.norm_num_groups,
            **kinds,
        )
        self.scaling_factor = config.scaling_factor

    def stem(self, images: Tensor) -> Tensor:
        return self.vae.encoder.conv_in(2 * images - 1)

    def down(self, level: int, x: Tensor) -> Tensor:
        return self.vae.encoder.down_blocks[level](x)

    def to_latent(self, x: Tensor) -> Tensor:
        encoder = self.vae.encoder
        x = encoder.mid_block(encoder.down_blocks[3](x))
        moments = self.vae.quant_conv(encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(x))))
        return moments[:, :LATENT_CHANNELS] * self.scaling_factor

    def from_latent(self, z: Tensor) -> Tensor:
        decoder = self.vae.decoder
        x = decoder.conv_in(self.vae.post_quant_conv(z / self.scaling_factor))
        return decoder.mid_block(x)

    def up(self, level: int, x: Tensor) -> Tensor:
        return self.vae.decoder.up_blocks[level](x)

    def upsample(self, level: int) -> nn.Conv2d:
        """The last convolution of an up block that doubles the resolution."""
        layer = self.vae.decoder.up_blocks[level].upsamplers[0].conv
        assert isinstance(layer, nn.Conv2d)
        return layer

    def to_image(self, x: Tensor) -> Tensor:
        decoder = self.vae.decoder
        x = decoder.conv_norm_out(decoder.up_blocks[3](x))
        return (decoder.conv_out(decoder.conv_act(x)) + 1) / 2


class TinyAutoencoder(nn.Module):
    """NAFBlocks from stride 2 on; the full resolution is only ever unshuffled and shuffled.

    The stem is a pixel-unshuffle by 2 and a 3x3 convolution, written as the one strided 6x6
    convolution that it is. It starts by copying the twelve values of each 2x2 cell, and the last
    convolution by giving the first twelve channels back: an autoencoder from the beginning.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        c0, c1, c2 = config.channels
        runs = [_naf_run(c, n) for c, n in zip((c0, c1, c2, c2), config.blocks, strict=True)]
        self.conv_in = nn.Conv2d(3, c0, 6, stride=2, padding=2)
        self.down_convs = nn.ModuleList([nn.Conv2d(c0, c1, 2, 2), nn.Conv2d(c1, c2, 2, 2)])
        self.down_blocks = nn.ModuleList(runs[:3])
        self.latent_out = nn.Sequential(runs[3], nn.Conv2d(c2, LATENT_CHANNELS, 1))

        stem, *ups = config.decoder_blocks
        self.latent_in = nn.Sequential(
            nn.Conv2d(LATENT_CHANNELS, c2, 3, padding=1), _naf_run(c2, stem)
        )
        self.up_blocks = nn.ModuleList(
            [
                nn.Sequential(_naf_run(c2, ups[0]), nn.ConvTranspose2d(c2, c1, 2, 2)),
                nn.Sequential(_naf_run(c1, ups[1]), nn.ConvTranspose2d(c1, c0, 2, 2)),
                _naf_run(c0, ups[2]),
            ]
        )
        self.conv_out = nn.Conv2d(c0, 12, 3, padding=1)
        self.notch = PhaseNotch()
        _copy_cells_(self.conv_in.weight)
        nn.init.dirac_(self.conv_out.weight)

    def stem(self, images: Tensor) -> Tensor:
        return self.conv_in(2 * images - 1)

    def down(self, level: int, x: Tensor) -> Tensor:
        if level > 0:
            x = self.down_convs[level - 1](x)
        return self.down_blocks[level](x)

    def to_latent(self, x: Tensor) -> Tensor:
        return self.latent_out(x)

    def from_latent(self, z: Tensor) -> Tensor:
        return self.latent_in(z)

    def up(self, level: int, x: Tensor) -> Tensor:
        return self.up_blocks[level](x)

    def upsample(self, level: int) -> nn.ConvTranspose2d:
        """The convolution that ends an up block and doubles the resolution."""
        *_, layer = self.up_blocks[level].children()
        assert isinstance(layer, nn.ConvTranspose2d)
        return layer

    def to_image(self, x: Tensor) -> Tensor:
        return (F.pixel_shuffle(self.notch(self.conv_out(x)), 2) + 1) / 2


@torch.no_grad()
def _copy_cells_(weight: Tensor) -> None:
    """Let output channel 4 * colour + 2 * row + column copy that value of each 2x2 cell."""
    nn.init.zeros_(weight)
    for channel in range(12):
        colour, cell = divmod(channel, 4)
        weight[channel, colour, 2 + cell // 2, 2 + cell % 2] = 1


def _naf_run(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(channels) for _ in range(count)))


def build_autoencoder(config: AutoencoderConfig) -> KLAutoencoder | TinyAutoencoder:
    return KLAutoencoder(config) if config.kind == "kl" else TinyAutoencoder(config)
