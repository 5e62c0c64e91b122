"""What each stage minimises, and the losses of the task networks and feature heads.

Images are (B, 3, S, S) float32 in [0, 1]: degraded and clean crops of the same places. Every loss
is a scalar tensor; a stage returns its losses by name, already weighted, and their sum is
minimised.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from unirestore_ros.model import UniRestore
from unirestore_ros.model.denoiser import add_noise
from unirestore_ros.tasks import UNLABELLED
from unirestore_ros.train.data import LabelledBatch, Truth

Losses = dict[str, Tensor]
# The loss of a frozen task network: of images (B, 3, S, S) and the truth of their pixels.
TaskLoss = Callable[[Tensor, Truth], Tensor]

# --- published weights and timesteps: skips finest first; t is drawn from the list
FEATURE_WEIGHTS = (0.1, 0.1, 0.01)
CONTROL_TIMESTEPS = (249, 499, 749, 999, 999, 999)
TASK_WEIGHT = 0.1
# --- this repository's
IMAGE_WEIGHT = 0.1
# Mean square error (28 dB) below which an image is good enough: the logarithm of a smaller error
# would spend the network on images that are clean already.
ERROR_FLOOR = 1.5e-3
# The same of the last stage (43 dB), in which clean images must come back whole: with 33 dB they
# lost a seventh of their Laplacian energy.
PAIR_FLOOR = 5e-5
LATENT_WEIGHT = 1e-3
STRIDE = 4  # of the task networks' and heads' maps, in pixels


# --- the stages


def stage0(network: UniRestore, degraded: Tensor, clean: Tensor) -> Losses:
    """Train the backbone of `tiny` together with the modules that later stages train on.

    The published network starts from SD-Turbo. This one learns all at once: to restore, to copy a
    quarter of the clean images through the plain encoder, and to give both the same features.
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
        # Hold the latent at unit variance, that of the noise which a denoiser mixes it with.
        "latent": LATENT_WEIGHT * (clean_z0.square().mean() - 1).square(),
    }


def stage1(network: UniRestore, degraded: Tensor, clean: Tensor) -> Losses:
    """Train CFRM, and a denoiser's adapters, by the published losses and by the image's own.

    Features that match in the mean square are not yet better for the decoder. The image loss,
    through the frozen decoder, says which of their differences matter.
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
    network: UniRestore, task: str, batch: LabelledBatch, task_loss: TaskLoss | None
) -> Losses:
    """Train TFA and prompts: by the image loss for perception (``task_loss`` None); for a machine
    task by its frozen network's loss, and by a tenth of the image loss of perception's prompt.

    Published: 10 * L1 and L1, where this has a logarithm (see ``image_loss``).
    """
    zt, skips = frozen_features(network, batch.degraded)
    image = IMAGE_WEIGHT * image_loss(network.decode(zt, skips, "ir"), batch.clean)
    if task_loss is None:
        return {"image": image}
    return {
        "image": image / 10,
        task: TASK_WEIGHT * task_loss(network.decode(zt, skips, task), batch),
    }


def stage3(network: UniRestore, task: str, batch: LabelledBatch, task_loss: TaskLoss) -> Losses:
    """Train the prompt of an added task by its frozen network's loss; nothing else learns."""
    zt, skips = frozen_features(network, batch.degraded)
    return {task: TASK_WEIGHT * task_loss(network.decode(zt, skips, task), batch)}


# --- restoration


def image_loss(image: Tensor, clean: Tensor, floor: float = ERROR_FLOOR) -> Tensor:
    """Mean log of each image's mean square error: PSNR up to a factor, which is NAFNet's loss.

    By L1, the few images in thick fog would decide where the network goes: their error is a hundred
    times that of a blurred one. In the logarithm every image counts alike.
    """
    error = (image.float() - clean).square().mean(dim=(1, 2, 3))
    return (error + floor).log().mean() - math.log(floor)


@torch.no_grad()
def clean_features(network: UniRestore, clean: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Encode clean images without CFRM: latent and skips, the targets of restoration."""
    return network.encode(clean, restore=False)


@torch.no_grad()
def frozen_features(network: UniRestore, degraded: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the decoder's latent and restored skips, where nothing before the decoder learns."""
    z0, skips = network.encode(degraded)
    return network.denoise(z0, noise=torch.randn_like(z0)), skips


def feature_loss(skips: list[Tensor], targets: list[Tensor]) -> Tensor:
    """The published CFRM loss: weighted MSE between restored and clean skips, finest first."""
    pairs = zip(FEATURE_WEIGHTS, skips, targets, strict=True)
    return torch.stack([w * F.mse_loss(skip, target) for w, skip, target in pairs]).sum()


def control_loss(network: UniRestore, z0: Tensor, clean_z0: Tensor) -> Tensor:
    """The published Control loss: MSE of the clean latent, predicted in one step from a noised one.

    The noised latent is the clean image's, the condition z0 the degraded image's. Without a
    denoiser: MSE between z0 and the clean image's latent.
    """
    choice = torch.randint(len(CONTROL_TIMESTEPS), (len(z0),))
    t = torch.tensor(CONTROL_TIMESTEPS)[choice].to(z0.device)
    zt = add_noise(clean_z0, torch.randn_like(z0), network.alphas[t].view(-1, 1, 1, 1))
    x0, _ = network.predict(zt, z0, t)
    return F.mse_loss(x0, clean_z0)


# --- segmentation and detection


def class_weights(counts: Tensor) -> Tensor:
    """Class weights (K,) of pixel counts (K,): inverse square root of frequency, mean 1."""
    weights = (counts / counts.sum() + 1e-3).rsqrt()
    return weights / weights.mean()


def segmentation_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of logits (B, K, h, w) with labels (B, 4h, 4w) at the cells' centres."""
    centres = labels[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
    return F.cross_entropy(logits.float(), centres, weights, ignore_index=UNLABELLED)


def detection_loss(logits: Tensor, shapes: Tensor, boxes: list[Tensor]) -> Tensor:
    """CenterNet's loss of heat maps (B, K, h, w) and box maps (B, 4, h, w), with L1 for the boxes.

    ``boxes``: for each image (N, 5), class, left, top, width, height in pixels.
    """
    logits, shapes = logits.float(), shapes.float()
    heat, cells, targets = (
        tensor.to(logits.device) for tensor in detection_targets(boxes, logits.shape)
    )
    shape_loss = shapes.new_zeros(())
    if len(cells):
        found = shapes[cells[:, 0], :, cells[:, 1], cells[:, 2]]
        shape_loss = F.l1_loss(found, targets)
    return centre_loss(logits, heat, len(cells)) + 0.5 * shape_loss


def detection_targets(boxes: list[Tensor], shape: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
    """Return heat maps of ``shape`` with a Gaussian on each centre, and for each of the N boxes its
    cell (batch, row, column), (N, 3), and its box values (dx, dy, log w, log h) in cells, (N, 4).
    """
    heat = torch.zeros(shape)
    rows, columns = torch.arange(shape[2])[:, None], torch.arange(shape[3])[None, :]
    cells, targets = [], []
    for index, listed in enumerate(boxes):
        for kind, x, y, width, height in listed.tolist():
            if min(width, height) < 1:
                continue
            u, v = (x + width / 2) / STRIDE, (y + height / 2) / STRIDE
            column, row = min(int(u), shape[3] - 1), min(int(v), shape[2] - 1)
            spread = max(0.7, 0.12 * min(width, height) / STRIDE)
            blob = torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * spread**2))
            heat[index, int(kind)] = torch.maximum(heat[index, int(kind)], blob)
            cells.append([index, row, column])
            size = torch.tensor([width, height]) / STRIDE
            targets.append(torch.cat([torch.tensor([u - column, v - row]), size.log()]))
    if not cells:
        return heat, torch.zeros(0, 3, dtype=torch.long), torch.zeros(0, 4)
    return heat, torch.tensor(cells), torch.stack(targets)


def centre_loss(logits: Tensor, heat: Tensor, boxes: int) -> Tensor:
    """CenterNet's penalty-reduced focal loss: summed over the cells, divided by the boxes."""
    p = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    peaks = heat.eq(1).float()
    positive = peaks * (1 - p).square() * p.log()
    negative = (1 - peaks) * (1 - heat).pow(4) * p.square() * (1 - p).log()
    return -(positive + negative).sum() / max(boxes, 1)
