"""What each stage minimises. Images are (B, 3, S, S) in [0, 1]: degraded and clean."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from unirestore_ros.model import UniRestore
from unirestore_ros.model.denoiser import add_noise
from unirestore_ros.train.downstream import Downstream
from unirestore_ros.train.labelled import LabelledBatch
from unirestore_ros.train.loop import Losses

FEATURE_WEIGHTS = (0.1, 0.1, 0.01)
CONTROL_TIMESTEPS = (249, 499, 749, 999, 999, 999)
TASK_WEIGHT = 0.1
IMAGE_WEIGHT = 0.1
ERROR_FLOOR = 1.5e-3
"""Mean square error, 28 dB, under which an image is good enough: a clean one needs no more."""
LATENT_WEIGHT = 1e-3
"""Stage 0: holds the latent at the unit variance of the noise that it is mixed with."""


def stage0(network: UniRestore, degraded: Tensor, clean: Tensor) -> Losses:
    """The backbone of `tiny`, together with the modules that will be trained on.

    Where the published network starts from SD-Turbo, this one learns all at once: to restore, to
    copy a quarter of the clean images through the plain encoder, and to give both the same
    features.
    """
    z0, skips = network.encode(degraded)
    zt = network.denoise(z0, noise=torch.randn_like(z0))
    restored = network.decode(zt, skips, "ir")

    few = max(len(clean) // 4, 1)
    clean_z0, clean_skips = network.encode(clean, restore=False)
    copied = network.decode(clean_z0[:few], [skip[:few] for skip in clean_skips], "ir")
    targets = [skip.detach() for skip in clean_skips]
    return {
        "image": IMAGE_WEIGHT * image_loss(restored, clean),
        "copy": IMAGE_WEIGHT / 4 * image_loss(copied, clean[:few]),
        "features": 0.1 * feature_loss(skips, targets),
        "control": 0.1 * control_loss(network, z0, clean_z0.detach()),
        "latent": LATENT_WEIGHT * (clean_z0.square().mean() - 1).square(),
    }


def stage1(network: UniRestore, degraded: Tensor, clean: Tensor) -> Losses:
    """CFRM, Controller and SC-Tuner, by the published losses and, at this size, the image's own.

    Features that match in the mean square are no better for the decoder by themselves: the image
    loss, through the frozen decoder, says which differences matter.
    """
    z0, skips = network.encode(degraded)
    restored = network.decode(network.denoise(z0, noise=torch.randn_like(z0)), skips, "ir")
    clean_z0, clean_skips = clean_features(network, clean)
    return {
        "image": IMAGE_WEIGHT * image_loss(restored, clean),
        "features": 0.1 * feature_loss(skips, clean_skips),
        "control": 0.1 * control_loss(network, z0, clean_z0),
    }


def stage2(
    network: UniRestore, task: str, batch: LabelledBatch, judge: Downstream | None
) -> Losses:
    """TFA and prompts: the image's loss for perception; for a machine task 0.1 * its frozen
    network's loss, and a tenth of the perception-prompt output's loss on the same batch.

    Published: 10 * L1 and L1 where this has the logarithm: see ``image_loss``.
    """
    zt, skips = frozen_features(network, batch.degraded)
    image = IMAGE_WEIGHT * image_loss(network.decode(zt, skips, "ir"), batch.clean)
    if judge is None:
        return {"image": image}
    return {
        "image": image / 10,
        task: TASK_WEIGHT * judge.loss(network.decode(zt, skips, task), batch),
    }


def stage3(network: UniRestore, task: str, batch: LabelledBatch, judge: Downstream) -> Losses:
    """One added prompt, by its frozen network's loss; nothing else may learn."""
    zt, skips = frozen_features(network, batch.degraded)
    return {task: TASK_WEIGHT * judge.loss(network.decode(zt, skips, task), batch)}


def image_loss(image: Tensor, clean: Tensor, floor: float = ERROR_FLOOR) -> Tensor:
    """Mean log of each image's mean square error: PSNR, up to a factor (NAFNet's loss).

    L1 lets the few images in thick fog, whose error is a hundred times that of a blurred one, say
    where the network goes; in the logarithm every image counts alike.
    """
    error = (image.float() - clean).square().mean(dim=(1, 2, 3))
    return (error + floor).log().mean() - math.log(floor)


@torch.no_grad()
def clean_features(network: UniRestore, clean: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What the plain encoder makes of clean images: the targets of restoration."""
    return network.encode(clean, restore=False)


@torch.no_grad()
def frozen_features(network: UniRestore, degraded: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Denoised latent and restored skips, once nothing before the decoder learns any more."""
    z0, skips = network.encode(degraded)
    return network.denoise(z0, noise=torch.randn_like(z0)), skips


def feature_loss(skips: list[Tensor], targets: list[Tensor]) -> Tensor:
    """The published CFRM loss: weighted MSE between restored and clean skips, finest first."""
    pairs = zip(FEATURE_WEIGHTS, skips, targets, strict=True)
    return torch.stack([w * F.mse_loss(skip, target) for w, skip, target in pairs]).sum()


def control_loss(network: UniRestore, z0: Tensor, clean_z0: Tensor) -> Tensor:
    """The published Control loss: MSE of the clean latent, predicted in one step from a noised."""
    choice = torch.randint(len(CONTROL_TIMESTEPS), (len(z0),))
    t = torch.tensor(CONTROL_TIMESTEPS)[choice].to(z0.device)
    zt = add_noise(clean_z0, torch.randn_like(z0), network.alphas[t].view(-1, 1, 1, 1))
    x0, _ = network.predict(zt, z0, t)
    return F.mse_loss(x0, clean_z0)
