"""A network in half precision, with what needs float32 kept in it; the graph says where.

In float32: normalisation (but for group norms in bf16), means over an image, the softmax of
attention and gates, everything that a prompt alone goes through, the latent from where it leaves
the encoder to where it enters the decoder (at t = 999 a DDIM step amplifies an error in epsilon
14.6 times), and the last convolution before the image. Convolutions and matrix products in between
are in half.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from unirestore_ros.export.rewrites import (
    ShuffledDoubling,
    ShuffledUpsample,
    TransposedUpsample,
    copied,
)
from unirestore_ros.model import UniRestore
from unirestore_ros.model.autoencoder import KLAutoencoder, TinyAutoencoder
from unirestore_ros.model.tfa import PooledGate, TaskFeatureAdapter

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)
_NORMS_IN_HALF: dict[torch.dtype, tuple[type[nn.Module], ...]] = {
    # Read and written in bf16 they fuse with what is around them; a third of what a frame moves.
    # TensorRT sums in float32 whatever it reads. In fp16 the squares could overflow if it did not.
    torch.bfloat16: (nn.GroupNorm,),
    torch.float16: (),
}
"""By precision, the norms around which a graph for a compiler has no casts."""


class Island(nn.Module):
    """A module that computes in one precision and gives its result in another."""

    def __init__(self, module: nn.Module, inner: torch.dtype, outer: torch.dtype) -> None:
        super().__init__()
        self.module, self.inner, self.outer = module.to(inner), inner, outer

    def forward(self, x: Tensor, *arguments: Any) -> Tensor:
        result: Tensor = self.module(x.to(self.inner), *arguments).to(self.outer)
        return result


class FloatMean(nn.Module):
    """The mean over an image (B, C, H, W) -> (B, C, 1, 1), summed in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((-2, -1), keepdim=True, dtype=torch.float32).to(x.dtype)


class WrittenOutAttention:
    """diffusers' attention with its softmax in float32 where the graph can see it.

    The fused kernels of PyTorch do the same inside; an exporter would write their softmax in half.
    """

    def __call__(
        self,
        attention: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """(B, L, C), or (B, C, H, W) in an autoencoder -> the same shape."""
        residual = hidden_states
        x = hidden_states.flatten(2).transpose(1, 2) if residual.ndim == 4 else hidden_states
        if attention.group_norm is not None:
            x = attention.group_norm(x.transpose(1, 2)).transpose(1, 2)
        context = x if encoder_hidden_states is None else encoder_hidden_states

        def heads(tensor: Tensor) -> Tensor:
            return tensor.unflatten(-1, (attention.heads, -1)).transpose(1, 2)

        q, k, v = (
            heads(part)
            for part in (
                attention.to_q(x) * attention.scale,
                attention.to_k(context),
                attention.to_v(context),
            )
        )
        weights = (q @ k.transpose(-1, -2)).float().softmax(dim=-1).to(v.dtype)
        x = attention.to_out[0]((weights @ v).transpose(1, 2).flatten(2))
        if residual.ndim == 4:
            x = x.transpose(1, 2).unflatten(-1, residual.shape[-2:])
        if attention.residual_connection:
            x = x + residual
        return x / attention.rescale_output_factor


def in_precision(network: UniRestore, precision: str, explicit: bool) -> UniRestore:
    """Copy a folded network in ``precision``.

    ``explicit``: casts around normalisation and attention are written into the graph, for
    compilers that do what is written. PyTorch's own kernels accumulate in float32 without them.
    TensorRT 11 compiles no transposed convolution in bfloat16: it gets another form of the same.
    """
    half = DTYPES[precision]
    network = copied(network)
    if explicit:
        _write_attention_out(network)
    if half == torch.float32:
        return network
    _mark_latent(network, half)
    _mark_prompt(network)
    _mark_children(network, half, explicit)
    return network


def _write_attention_out(network: UniRestore) -> None:
    for module in network.modules():
        if isinstance(module, Attention):
            module.set_processor(WrittenOutAttention())


def _mark_latent(network: UniRestore, half: torch.dtype) -> None:
    """From the encoder's last convolution to the decoder's first the latent is in float32."""
    float32 = torch.float32
    autoencoder = network.autoencoder
    if isinstance(autoencoder, KLAutoencoder):
        vae = autoencoder.vae
        enters = [(vae.encoder, "conv_in"), (vae.decoder, "conv_in")]
        leaves = [(vae.encoder, "conv_norm_out"), (vae.encoder, "conv_out"), (vae, "quant_conv")]
        leaves += [(vae, "post_quant_conv")]
        leaves += [(vae.decoder, "conv_norm_out"), (vae.decoder, "conv_out")]
    else:
        assert isinstance(autoencoder, TinyAutoencoder)
        enters = [(autoencoder, "conv_in"), (autoencoder.latent_in, "0")]
        leaves = [(autoencoder.latent_out, "1"), (autoencoder, "conv_out")]
    for holder, name in enters:
        _wrap(holder, name, half, half)
    for holder, name in leaves:
        _wrap(holder, name, float32, float32)
    if network.denoiser is not None and network.controller is not None:
        _mark_denoiser(network.denoiser.unet, network.controller, half)


def _mark_denoiser(unet: nn.Module, controller: nn.Module, half: torch.dtype) -> None:
    """U-Net and Controller are in half from ``conv_in`` on; the U-Net's end is in float32, and what
    depends on timesteps or the empty prompt alone."""
    float32 = torch.float32
    for holder in (unet, controller):
        _wrap(holder, "conv_in", half, half)
    for name in ("conv_norm_out", "conv_out"):
        _wrap(unet, name, float32, float32)
    # Time embeddings, and the empty prompt's keys and values: constants in the end, rounded once.
    for module in [*unet.modules(), *controller.modules()]:
        if isinstance(module, ResnetBlock2D):
            _wrap(module, "time_emb_proj", float32, half)
        elif isinstance(module, Attention) and module.is_cross_attention:
            _wrap(module, "to_k", float32, half)
            _wrap(module, "to_v", float32, half)
    for holder in (unet, controller):
        _wrap(holder, "time_embedding", float32, float32)


def _mark_prompt(network: UniRestore) -> None:
    """Keep in float32 what only a prompt or a gate's mean goes through: a few numbers."""
    for adapter in network.tfa:
        assert isinstance(adapter, TaskFeatureAdapter)
        _wrap(adapter, "out_gate", torch.float32, torch.float32)
        if adapter.prompt_trans is not None:
            _wrap(adapter, "prompt_trans", torch.float32, torch.float32)


def _wrap(holder: nn.Module, name: str, inner: torch.dtype, outer: torch.dtype) -> None:
    setattr(holder, name, Island(holder.get_submodule(name), inner, outer))


def _mark_children(module: nn.Module, half: torch.dtype, explicit: bool) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, Island):
            continue
        if isinstance(child, PooledGate):
            for convolution in list(child)[:-1]:  # the last meets means, in float32
                _to_half(convolution, half)
            if explicit:
                child[0] = Island(child[0], torch.float32, half)
        elif isinstance(child, _NORMS):
            if explicit and not isinstance(child, _NORMS_IN_HALF[half]):
                setattr(module, name, Island(child, torch.float32, half))
            else:
                child.to(half)
        elif isinstance(child, nn.AdaptiveAvgPool2d):
            setattr(module, name, FloatMean())
        elif explicit and isinstance(child, Upsample2D):
            setattr(module, name, _doubling(child, half).to(half))
        elif explicit and isinstance(child, nn.ConvTranspose2d):
            setattr(module, name, ShuffledUpsample(child).to(half))
        else:
            _to_half(child, half)
            _mark_children(child, half, explicit)


def _doubling(upsample: Upsample2D, half: torch.dtype) -> nn.Module:
    """Nearest up-sampling and its convolution in four ninths of the operations."""
    assert isinstance(upsample.conv, nn.Conv2d)
    transposed = TransposedUpsample(upsample.conv)
    return ShuffledDoubling(transposed) if half == torch.bfloat16 else transposed


def _to_half(module: nn.Module, half: torch.dtype) -> None:
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        module.to(half)
