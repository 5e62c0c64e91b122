"""The Controller: reads the latent z0 and gives the U-Net feature maps to steer by."""

from __future__ import annotations

from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import AttnDownBlock2D, DownBlock2D, UNetMidBlock2D
from torch import Tensor, nn

from unirestore_ros.model.autoencoder import LATENT_CHANNELS
from unirestore_ros.model.config import ControllerConfig

EPS = 1e-5


class Controller(nn.Module):
    """StableSR's time-aware encoder. z0 (B, 4, h, w), t (B,) -> one map a level, finest first.

    Map i is (B, out_channels, h / 2**i, w / 2**i).
    """

    def __init__(self, config: ControllerConfig) -> None:
        super().__init__()
        channels = config.channels
        self.time_proj = Timesteps(channels[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(channels[0], config.time_embed_dim)
        self.conv_in = nn.Conv2d(LATENT_CHANNELS, channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            _down_block(config, level) for level in range(len(channels))
        )
        self.middle_block = UNetMidBlock2D(
            in_channels=channels[-1],
            temb_channels=config.time_embed_dim,
            resnet_eps=EPS,
            resnet_groups=config.norm_num_groups,
            attention_head_dim=channels[-1] // (config.heads or 1),
            add_attention=config.heads is not None,
        )
        self.fea_tran = nn.ModuleList(
            ResnetBlock2D(
                in_channels=width,
                out_channels=config.out_channels,
                temb_channels=config.time_embed_dim,
                groups=config.norm_num_groups,
                eps=EPS,
            )
            for width in channels
        )

    def forward(self, z0: Tensor, t: Tensor) -> list[Tensor]:
        embedding = self.time_embedding(self.time_proj(t).to(z0.dtype))
        x = self.conv_in(z0)
        maps = []
        for block in self.down_blocks:
            x, states = block(x, embedding)
            maps.append(states[-2] if block.downsamplers is not None else x)
        maps[-1] = self.middle_block(x, embedding)
        return [tran(m, embedding) for tran, m in zip(self.fea_tran, maps, strict=True)]


def _down_block(config: ControllerConfig, level: int) -> nn.Module:
    channels = config.channels
    last = level == len(channels) - 1
    width = channels[level]
    common = {
        "in_channels": channels[max(level - 1, 0)],
        "out_channels": width,
        "temb_channels": config.time_embed_dim,
        "num_layers": config.layers_per_block,
        "resnet_eps": EPS,
        "resnet_groups": config.norm_num_groups,
        "downsample_padding": 1,
    }
    if last or config.heads is None:
        return DownBlock2D(**common, add_downsample=not last)
    return AttnDownBlock2D(**common, attention_head_dim=width // config.heads)
