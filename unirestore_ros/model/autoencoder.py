"""The two autoencoders behind one interface, cut where CFRM and TFA go in.

Encoder: ``stem`` -> ``down(0)`` -> [CFRM] -> ``down(1)`` -> [CFRM] -> ``down(2)`` -> [CFRM] ->
``to_latent``. Decoder: ``from_latent`` -> [TFA] -> ``up(0)`` -> [TFA] -> ``up(1)`` -> [TFA] ->
``up(2)`` -> ``to_image``. Images are (B, 3, H, W) in [0, 1], not clamped on the way out;
latents are (B, 4, H/8, W/8), the posterior's mode, scaled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from unirestore_ros.model.blocks import NAFBlock
from unirestore_ros.model.config import AutoencoderConfig

LATENT_CHANNELS = 4
# Side of the windows in which a PhaseNotch takes a phase's mean, in its blocks.
WINDOW = 4
# For images in [-1, 1]: half a grey level. After training with the phase loss the grid has less
# than 0.1, as the standard deviation between the phases.
GRID_LIMIT = 1 / 255


class KLAutoencoder(nn.Module):
    """diffusers' AutoencoderKL, run level by level: the published size."""

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
        # The first half is the mean, which is the posterior's mode; published: a sample of it.
        return moments[:, :LATENT_CHANNELS] * self.scaling_factor

    def from_latent(self, z: Tensor) -> Tensor:
        decoder = self.vae.decoder
        x = decoder.conv_in(self.vae.post_quant_conv(z / self.scaling_factor))
        return decoder.mid_block(x)

    def up(self, level: int, x: Tensor) -> Tensor:
        return self.vae.decoder.up_blocks[level](x)

    def upsample(self, level: int) -> nn.Conv2d:
        """Return the convolution that ends an up block and doubles the resolution."""
        layer = self.vae.decoder.up_blocks[level].upsamplers[0].conv
        assert isinstance(layer, nn.Conv2d)
        return layer

    def to_image(self, x: Tensor) -> Tensor:
        decoder = self.vae.decoder
        x = decoder.conv_norm_out(decoder.up_blocks[3](x))
        return (decoder.conv_out(decoder.conv_act(x)) + 1) / 2


class TinyAutoencoder(nn.Module):
    """The autoencoder of `tiny`: NAFBlocks from stride 2 on, nothing at the full resolution.

    The stem is a pixel-unshuffle by 2 and a 3x3 convolution, written as one strided 6x6
    convolution. Fresh weights copy the twelve values of each 2x2 cell in, and the first twelve
    channels out, so that training starts from an autoencoder.
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
        # Grids of the doublings before the last are left to training: filters there took out
        # nothing that could be measured.
        self.notch: nn.Module = PhaseNotch(3, 4, GRID_LIMIT)
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
        """Return the convolution that ends an up block and doubles the resolution."""
        *_, layer = self.up_blocks[level].children()
        assert isinstance(layer, nn.ConvTranspose2d)
        return layer

    def to_image(self, x: Tensor) -> Tensor:
        return (self.notch(F.pixel_shuffle(self.conv_out(x), 2)) + 1) / 2


@torch.no_grad()
def _copy_cells_(weight: Tensor) -> None:
    """Let output channel 4 * colour + 2 * row + column copy that value of each 2x2 cell.

    This is the order of the channels in which pixel-unshuffle lays them out.
    """
    nn.init.zeros_(weight)
    for channel in range(12):
        colour, cell = divmod(channel, 4)
        weight[channel, colour, 2 + cell // 2, 2 + cell % 2] = 1


def _naf_run(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(channels) for _ in range(count)))


class PhaseNotch(nn.Module):
    """A fixed filter that takes out the grid that doubling the resolution makes.

    The four pixels of a cell come from four sets of a convolution's weights, which nothing keeps
    alike. Their local means differ: a grid with a period of two pixels, which the layers after it
    widen. It is estimated and subtracted: for each phase and channel the mean of what is left of
    ``x`` after a binomial 3x3 average (so that a slope is not taken for a difference), in windows
    of ``WINDOW`` blocks; enlarged bilinearly.

    (B, C, H, W) -> the same shape; ``block``: cells that a block is wide, H and W are multiples of
    twice that and hold WINDOW blocks; ``limit``: a block's mean counts as at most that, so that a
    regular texture is not taken for a grid, and put as one into the sky beside it. No weight is
    trained or stored.
    """

    weight: Tensor

    def __init__(self, channels: int, block: int, limit: float) -> None:
        super().__init__()
        self.channels, self.block, self.limit = channels, block, limit
        self.reset()

    def reset(self) -> None:
        """Compute the weights, on the CPU."""
        weight = _block_means(self.block).repeat(self.channels, 1, 1, 1)
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        padded = F.pad(x.float(), (1, 1, 1, 1), mode="replicate")
        means = F.conv2d(padded, self.weight, stride=2 * block, groups=self.channels)
        means = F.avg_pool2d(means.clamp(-self.limit, self.limit), WINDOW, stride=1)
        # The outermost windows' means reach beyond their centres to the border; what is enlarged
        # beyond the border is cut off.
        margin = WINDOW // 2
        means = F.pad(means, (margin,) * 4, mode="replicate")
        cells = F.interpolate(
            means, scale_factor=float(block), mode="bilinear", align_corners=False
        )
        cut = block // 2
        return x - F.pixel_shuffle(cells[..., cut:-cut, cut:-cut], 2).to(x.dtype)


def _block_means(block: int) -> Tensor:
    """Return the weights (4, 1, S, S) of a convolution whose outputs are the four phases' means of
    ``x`` less its binomial average, over a block of ``block`` cells; S has a pixel more each way.
    """
    binomial = np.array([1, 2, 1]) / 4
    side = 2 * block + 2
    inside = np.zeros(side)
    inside[1:-1] = 1 / block
    kernels = []
    for row in range(2):
        for column in range(2):
            rows, columns = (inside * (np.arange(side) % 2 != i) for i in (row, column))
            around = [np.convolve(line, binomial, mode="same") for line in (rows, columns)]
            kernels.append(np.outer(rows, columns) - np.outer(*around))
    # from_numpy: on the CPU even where a network is built without memory, on the device "meta"
    return torch.from_numpy(np.stack(kernels)[:, None]).float()


def build_autoencoder(config: AutoencoderConfig) -> KLAutoencoder | TinyAutoencoder:
    return KLAutoencoder(config) if config.kind == "kl" else TinyAutoencoder(config)
