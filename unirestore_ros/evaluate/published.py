"""The network computed as the published implementation does it, to measure beside ours.

The same function and the same weights; what ours collapses is written out as it is there: each
gate's second 3x3 convolution at the skip's resolution before its average, the attention of the
CFRM multiplied in twice, the posterior's deviation, the image resized at the end at any size.
Written from the facts of github.com/unirestore/UniRestore (src/modules/diffuie).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from diffusers import DDIMScheduler
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn
from torch.nn import functional as F

from unirestore_ros.export.rewrites import copied
from unirestore_ros.model import UniRestore
from unirestore_ros.model.autoencoder import KLAutoencoder
from unirestore_ros.model.blocks import GroupAttentionBlock
from unirestore_ros.model.denoiser import FIRST_TIMESTEP, TRAIN_TIMESTEPS
from unirestore_ros.model.tfa import PooledGate


class PublishedWay:
    """One full eager forward for each output, in float32."""

    def __init__(self, network: UniRestore) -> None:
        self._network = PublishedNetwork(network)

    @torch.inference_mode()
    def __call__(self, images: Tensor, tasks: Sequence[str]) -> list[Tensor]:
        """(B, 3, H, W) in [0, 1] -> for each task (short name) the whole forward's image."""
        with _published_precision():
            return [self._network.restore(images, task) for task in tasks]


class PublishedNetwork(UniRestore):
    """A network's own weights, computed as published. ``restore`` has the published size rule."""

    def __init__(self, network: UniRestore) -> None:
        nn.Module.__init__(self)  # its parts come from the network
        twin = copied(network)
        _write_out(twin)
        self.config = twin.config
        for name, module in twin.named_children():
            self.add_module(name, module)
        for name, buffer in network.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        self.null_embedding = network.null_embedding
        self._scheduler = DDIMScheduler(
            num_train_timesteps=TRAIN_TIMESTEPS,
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            timestep_spacing="trailing",
            prediction_type=network.config.unet.prediction,
        )

    def encode(self, images: Tensor, restore: bool = True) -> tuple[Tensor, list[Tensor]]:
        autoencoder = self.autoencoder
        if not isinstance(autoencoder, KLAutoencoder):
            return super().encode(images, restore)
        x, skips = autoencoder.stem(images), []
        for level, cfrm in enumerate(self.cfrm):
            x = cfrm(autoencoder.down(level, x))
            skips.append(x)
        encoder = autoencoder.vae.encoder
        x = encoder.mid_block(encoder.down_blocks[3](x))
        x = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(x)))
        posterior = DiagonalGaussianDistribution(autoencoder.vae.quant_conv(x))
        return posterior.mode() * autoencoder.scaling_factor, skips

    def denoise(self, z0: Tensor, steps: int = 1, noise: Tensor | None = None) -> Tensor:
        scheduler = self._scheduler
        noise = self.stored_noise(z0) if noise is None else noise
        first = torch.full((z0.shape[0],), FIRST_TIMESTEP)
        zt: Tensor = scheduler.add_noise(z0, noise.expand_as(z0), first)
        scheduler.set_timesteps(steps)
        for time in scheduler.timesteps:
            t = time.reshape(-1)
            prediction = self.denoiser(zt, t, self.null_embedding, self.controller(z0, t))
            zt = scheduler.step(prediction, time, zt).prev_sample
        return zt


@contextmanager
def _published_precision() -> Iterator[None]:
    """The published main program lets matrix products be in less than float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class _Gate(nn.Sequential):
    """Convolve at the skip's resolution, then average: (B, C, H, W) -> (B, T, C)."""

    def __init__(self, gate: PooledGate) -> None:
        super().__init__(*gate, nn.AdaptiveAvgPool2d(1))

    def forward(self, skip: Tensor) -> Tensor:
        return super().forward(skip).view(skip.shape[0], -1, skip.shape[1])


class _GroupAttention(nn.Module):
    def __init__(self, block: GroupAttentionBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        block, groups = self.block, self.block.groups
        y = F.gelu(block.group_conv(block.group_norm(block.conv_in(x))))
        y = y * block.intra_group_attn(y)
        between = block.inter_group_attn(y)[:, :, None]
        y = (y.unflatten(1, (groups, -1)) * between).flatten(1, 2)
        return block.nafblock(x + block.pwconv(y))


def _write_out(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, PooledGate):
            setattr(module, name, _Gate(child))
        elif isinstance(child, GroupAttentionBlock):
            setattr(module, name, _GroupAttention(child))
        else:
            _write_out(child)
