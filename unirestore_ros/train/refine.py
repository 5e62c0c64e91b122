"""The last stage: the whole network trained on, from weights that all stages before have made.

Iterations take turns: pairs at the working size, pairs at two and three times it (the detail gain),
and a machine task's loss through its prompt.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unirestore_ros.model import UniRestore
from unirestore_ros.model.autoencoder import TinyAutoencoder
from unirestore_ros.model.detail import DetailGain, fused, reduced_by
from unirestore_ros.train.downstream import Downstream
from unirestore_ros.train.labelled import LabelledBatch
from unirestore_ros.train.loop import Losses
from unirestore_ros.train.stages import (
    IMAGE_WEIGHT,
    TASK_WEIGHT,
    clean_features,
    control_loss,
    feature_loss,
    image_loss,
)

DETAIL_FLOOR = 3e-4
"""Mean square error of an image at the camera's size that is good enough, 35 dB: with the 28 dB of
the working size clean frames would lose 5 dB."""
PHASE_WEIGHT = 0.04
"""Of a grey level of phase deviation; at 0.3 PSNR falls by 0.3 dB."""
TILE = 48
"""Side of the tiles, in pixels, in each of which a grid of two pixels is looked for."""


def with_detail_gain(network: UniRestore) -> UniRestore:
    """The same network with a fresh detail gain, where it has none yet."""
    if network.detail is None:
        network.config = dataclasses.replace(network.config, detail_gain=True)
        network.detail = DetailGain(network.config.tfa.feature_channels[-1])
    return network


def without_notch(network: UniRestore) -> UniRestore:
    """The same network without the filter behind its last layer, so that training sees the grid and
    the phase loss can take it out of the weights."""
    network.autoencoder.notch = nn.Identity()
    return network


def end_of(network: UniRestore) -> list[nn.Module]:
    """What the image alone passes: behind every feature that a task reads."""
    autoencoder = network.autoencoder
    assert isinstance(autoencoder, TinyAutoencoder) and network.detail is not None
    return [autoencoder.up_blocks[-1], autoencoder.conv_out, network.detail]


def perception_losses(network: UniRestore, degraded: Tensor, clean: Tensor) -> Losses:
    """Pairs (B, 3, S, S) at the working size: the image's and the phase loss, and stage 1's of
    the features where these are trained."""
    z0, skips = network.encode(degraded)
    restored = network.decode(network.denoise(z0, noise=torch.randn_like(z0)), skips, "ir")
    losses = {
        "image": IMAGE_WEIGHT * image_loss(restored, clean),
        "phase": PHASE_WEIGHT * phase_loss(restored, clean),
    }
    if z0.requires_grad:
        clean_z0, clean_skips = clean_features(network, clean)
        losses["features"] = 0.1 * feature_loss(skips, clean_skips)
        losses["control"] = 0.1 * control_loss(network, z0, clean_z0)
    return losses


def detail_losses(
    network: UniRestore, degraded: Tensor, clean: Tensor, factor: int, task: str
) -> Losses:
    """Pairs (B, 3, S, S) at ``factor`` times the working size, fused as the engine does it.

    A machine task's prompt trains the gain alone: what its image is to look like is not asked.
    """
    reduced = reduced_by(degraded, factor)
    z0, skips = network.encode(reduced)
    zt = network.denoise(z0, noise=torch.randn_like(z0))
    restored, gain = network.decode_with_gain(zt, skips, task)
    if task != "ir":
        whole = fused(restored.detach(), gain, degraded, reduced)
        return {"gain": IMAGE_WEIGHT * image_loss(whole, clean, DETAIL_FLOOR)}
    whole = fused(restored, gain, degraded, reduced)
    small = reduced_by(clean, factor)
    return {
        "small": IMAGE_WEIGHT / 2 * image_loss(restored, small),
        "detail": IMAGE_WEIGHT * image_loss(whole, clean, DETAIL_FLOOR),
        "phase": PHASE_WEIGHT * phase_loss(restored, small),
    }


def machine_losses(
    network: UniRestore, task: str, batch: LabelledBatch, judge: Downstream
) -> Losses:
    """Labelled pairs: the task's frozen network on the image of its prompt; a tenth of the image's
    loss keeps perception where it is."""
    z0, skips = network.encode(batch.degraded)
    zt = network.denoise(z0, noise=torch.randn_like(z0))
    restored = network.decode(zt, skips, "ir")
    return {
        "image": IMAGE_WEIGHT / 10 * image_loss(restored, batch.clean),
        task: TASK_WEIGHT * judge.loss(network.decode(zt, skips, task), batch),
    }


def phase_loss(image: Tensor, clean: Tensor) -> Tensor:
    """Phase deviation of the error in grey levels: of a grid of two pixels in tiles of ``TILE``,
    and of one of eight pixels, the latent's stride, in the whole crop."""
    error = 255 * (image.float() - clean)
    fine = error - F.avg_pool2d(error, 9, 1, 4, count_include_pad=False)
    return phase_spread(fine, 2, TILE) + phase_spread(fine, 8, fine.shape[-1])


def phase_spread(fine: Tensor, period: int, tile: int) -> Tensor:
    """Mean over tiles and channels of the standard deviation between the means of the phases.

    ``fine`` (B, C, S, S); what is left of S beyond whole tiles does not count.
    """
    side = fine.shape[-1] // tile * tile
    phases = F.pixel_unshuffle(fine[..., :side, :side], period)
    means = F.avg_pool2d(phases, tile // period)
    deviations = means.unflatten(1, (fine.shape[1], period**2)).var(dim=2, unbiased=False)
    return (deviations + 1e-6).sqrt().mean()
