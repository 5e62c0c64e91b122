"""The denoiser: Controller, SC-Tuner adapters on the frozen U-Net's skips, one to four DDIM steps.

Latents are (B, 4, h, w) at stride 8 of the image; timesteps t are (B,) int64.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import AttnDownBlock2D, DownBlock2D, UNetMidBlock2D
from torch import Tensor, nn

from unirestore_ros.model.autoencoder import LATENT_CHANNELS
from unirestore_ros.model.config import ControllerConfig, UNetConfig

TRAIN_TIMESTEPS = 1000
FIRST_TIMESTEP = TRAIN_TIMESTEPS - 1
MAX_STEPS = 4
NORM_EPS = 1e-5


def alphas_cumprod() -> Tensor:
    """Return SD-Turbo's cumulative alphas, (1000,) float32."""
    scheduler = DDIMScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
    )
    return scheduler.alphas_cumprod


def timesteps(steps: int) -> list[int]:
    """List the timesteps in trailing spacing: 1 -> [999]; 4 -> [999, 749, 499, 249]."""
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"{steps} denoising steps: choose 1 to {MAX_STEPS}")
    return [round(FIRST_TIMESTEP + 1 - i * TRAIN_TIMESTEPS / steps) - 1 for i in range(steps)]


class Controller(nn.Module):
    """StableSR's time-aware encoder: reads the latent z0 and gives the U-Net maps to steer by.

    z0 and t -> one map a level, finest first; map i is (B, out_channels, h / 2**i, w / 2**i).
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
            resnet_eps=NORM_EPS,
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
                eps=NORM_EPS,
            )
            for width in channels
        )

    def forward(self, z0: Tensor, t: Tensor) -> list[Tensor]:
        embedding = self.time_embedding(self.time_proj(t).to(z0.dtype))
        x = self.conv_in(z0)
        maps = []
        for block in self.down_blocks:
            x, states = block(x, embedding)
            # The last state before the downsampler, whose output is the last of the states.
            maps.append(states[-2] if block.downsamplers is not None else x)
        # The deepest map is the mid block's.
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
        "resnet_eps": NORM_EPS,
        "resnet_groups": config.norm_num_groups,
        "downsample_padding": 1,
    }
    if last or config.heads is None:
        return DownBlock2D(**common, add_downsample=not last)
    return AttnDownBlock2D(**common, attention_head_dim=width // config.heads)


class SCTuner(nn.Module):
    """A skip's adapter: skip' = tuner(skip + p) + p + skip, p the projected Controller map."""

    def __init__(self, control_channels: int, skip_channels: int) -> None:
        super().__init__()
        c = skip_channels
        self.proj = nn.Conv2d(control_channels, c, 1)
        self.tuner = nn.Sequential(nn.Conv2d(c, c, 1), nn.GELU(), nn.Conv2d(c, c, 1))

    def forward(self, skip: Tensor, control: Tensor) -> Tensor:
        p = self.proj(control)
        return self.tuner(skip + p) + p + skip


class ControlledUNet(nn.Module):
    """diffusers' UNet2DConditionModel with its twelve skips tuned by the Controller's maps.

    The skips are tuned after the whole down and mid path has run on untouched tensors; the mid
    block's output is left as it is.
    """

    def __init__(self, config: UNetConfig, control_channels: int) -> None:
        super().__init__()
        self.unet = build_unet(config)
        self.prediction = config.prediction
        self.skip_levels, widths = _skip_layout(config)
        self.csc_editors = nn.ModuleList(SCTuner(control_channels, width) for width in widths)

    def forward(self, zt: Tensor, t: Tensor, context: Tensor | None, maps: list[Tensor]) -> Tensor:
        """Predict epsilon, or v, from zt (B, 4, h, w) at t (B,); same shape as zt.

        ``context`` (B, L, D): the empty prompt's embedding; None for a U-Net without attention.
        """
        unet = self.unet
        embedding = unet.time_embedding(unet.time_proj(t).to(zt.dtype))

        def run(block: nn.Module, x: Tensor, **arguments: Any) -> Any:
            if getattr(block, "has_cross_attention", False):
                arguments["encoder_hidden_states"] = context
            return block(x, temb=embedding, **arguments)

        x = unet.conv_in(zt)
        skips = [x]
        for block in unet.down_blocks:
            x, states = run(block, x)
            skips.extend(states)
        x = run(unet.mid_block, x)
        skips = [
            editor(skip, maps[level])
            for editor, skip, level in zip(self.csc_editors, skips, self.skip_levels, strict=True)
        ]
        for block in unet.up_blocks:
            count = len(block.resnets)
            x = run(block, x, res_hidden_states_tuple=tuple(skips[-count:]))
            del skips[-count:]
        return unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))

    def split(self, zt: Tensor, prediction: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Turn a prediction into (x0, epsilon), both float32.

        In half precision x0 would be useless: at t = 999 it amplifies an error in epsilon 14.6
        times. ``v_prediction`` does not.
        """
        zt, prediction = zt.float(), prediction.float()
        signal, noise = alpha.sqrt(), (1 - alpha).sqrt()
        if self.prediction == "v_prediction":
            return signal * zt - noise * prediction, signal * prediction + noise * zt
        return (zt - noise * prediction) / signal, prediction


def build_unet(config: UNetConfig) -> UNet2DConditionModel:
    """Make the U-Net of a configuration, with cross-attention where it has a width for it."""
    levels = len(config.channels)
    if config.cross_attention_dim is None:
        kinds: dict[str, Any] = {
            "down_block_types": ("DownBlock2D",) * levels,
            "mid_block_type": "UNetMidBlock2D",
            "up_block_types": ("UpBlock2D",) * levels,
        }
    else:
        kinds = {
            "down_block_types": ("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
            "cross_attention_dim": config.cross_attention_dim,
            "attention_head_dim": config.heads,  # head counts, whatever diffusers calls them
            "use_linear_projection": True,
        }
    return UNet2DConditionModel(
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=config.channels,
        layers_per_block=config.layers_per_block,
        norm_num_groups=config.norm_num_groups,
        **kinds,
    )


def _skip_layout(config: UNetConfig) -> tuple[list[int], list[int]]:
    """List level and width of each skip, in the order in which the down path produces them."""
    levels, widths = [0], [config.channels[0]]
    for level, width in enumerate(config.channels):
        levels += [level] * config.layers_per_block
        widths += [width] * config.layers_per_block
        if level < len(config.channels) - 1:
            levels.append(level + 1)  # a downsampler's output is a skip of the next level
            widths.append(width)
    return levels, widths


def ddim_step(x0: Tensor, epsilon: Tensor, alpha_previous: Tensor) -> Tensor:
    """Take a deterministic DDIM step (eta 0) to the noise level of ``alpha_previous``.

    The last step ends at alphas_cumprod[0] = 0.9991, not at the clean x0, as published.
    """
    return alpha_previous.sqrt() * x0 + (1 - alpha_previous).sqrt() * epsilon


def add_noise(z0: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """Return zt = sqrt(alpha) z0 + sqrt(1 - alpha) noise; ``alpha`` broadcasts against z0."""
    return alpha.sqrt() * z0 + (1 - alpha).sqrt() * noise


def stored_noise() -> Tensor:
    """Draw the one noise tensor of a set of weights: (1, 4, 136, 240) float32, for up to 1920x1088.

    It is never drawn again, so that a frame gives the same output always and a video does not
    flicker because of the sampler.
    """
    return torch.randn(1, LATENT_CHANNELS, 136, 240, generator=torch.Generator().manual_seed(0))
