"""`train gain`: the detail gain alone, on a network that stays as it is.

Everything before the gain is computed once for a set of crops and kept, so that an iteration costs
a fifth of what it would with the network in it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unirestore_ros.model import UniRestore
from unirestore_ros.model.detail import DetailGain, fresh_gain, fused, reduced_by
from unirestore_ros.model.weights import SHIPPED_WEIGHTS, load_weights, placed, save_weights
from unirestore_ros.train.data import PairSampler
from unirestore_ros.train.loop import Plan, Run, Setting, read_ema
from unirestore_ros.train.losses import Losses, image_loss
from unirestore_ros.train.prepare import DRIVING

# Side of a crop in pixels, by how many times the working size it has, in turn.
CROPS = ((2, 320), (3, 336), (3, 336), (4, 320))
KEPT = 400
# Prompts whose features are kept: all must give a gain, perception's image is the driver's.
PROMPTS = ("ir", "ir", "ir", "seg", "cls", "det")
# Mean square error of an image at the camera's size that is good enough, 37 dB: with the 28 dB of
# the working size clean frames would lose 5 dB.
DETAIL_FLOOR = 2e-4
# Share of crops that are not degraded: what is clean must come back whole.
CLEAN_SHARE = 0.08


@dataclasses.dataclass(frozen=True)
class KeptCrops:
    """A batch of crops, and what the network makes of them.

    ``degraded`` and ``clean`` (B, 3, S, S) uint8; ``features``, ``skip`` (B, C, s/2, s/2) and
    ``restored`` (B, 3, s, s) float16, s the working size.
    """

    factor: int
    degraded: Tensor
    clean: Tensor
    features: Tensor
    skip: Tensor
    restored: Tensor

    def loss(self, gain: DetailGain) -> Tensor:
        """Return the loss of the image that the gain gives at the camera's size."""
        degraded, clean = (images.float() / 255 for images in (self.degraded, self.clean))
        reduced = reduced_by(degraded, self.factor)
        predicted = gain(self.features.float(), self.skip.float())
        whole = fused(self.restored.float(), predicted, degraded, reduced)
        return image_loss(whole, clean, DETAIL_FLOOR)


def train_gain(setting: Setting, plan: Plan, batch: int, kept: int, start: Path | None) -> Run:
    """Train a fresh detail gain for the weights in ``start`` (None: the shipped ones), on ``kept``
    batches of crops."""
    network = placed(_frozen(start), setting.device)
    gain = placed(fresh_gain(network.config), setting.device)
    run = setting.run("gain", gain, plan)
    pairs = PairSampler(
        setting.frames, setting.seed + 6 + run.iteration, setting.device, DRIVING, CLEAN_SHARE
    )
    draws = np.random.default_rng(setting.seed + run.iteration)
    crops = [keep(network, pairs, batch, i, setting.bf16) for i in range(kept)]

    def step(iteration: int) -> Losses:
        return {"detail": crops[draws.integers(kept)].loss(gain)}

    run.train(step)
    run.finish()
    return run


def export_gain(setting: Setting, file: Path, start: Path | None) -> None:
    """Write the weights in ``start`` in float16 with the gain of `train gain`."""
    network = _frozen(start)
    network.config = dataclasses.replace(network.config, detail_gain=True)
    network.detail = fresh_gain(network.config)
    network.detail.load_state_dict(read_ema(setting.work, "gain"))
    save_weights(network, file)


def _frozen(start: Path | None) -> UniRestore:
    return load_weights(start or SHIPPED_WEIGHTS / "tiny.safetensors")


@torch.no_grad()
def keep(network: UniRestore, pairs: PairSampler, batch: int, i: int, bf16: bool) -> KeptCrops:
    """Draw the batch number ``i`` of crops and run the network on them, reduced."""
    factor, side = CROPS[i % len(CROPS)]
    degraded, clean = pairs(batch, side)
    with torch.autocast(degraded.device.type, torch.bfloat16, enabled=bf16):
        z0, skips = network.encode(reduced_by(degraded, factor))
        features = network.last_features(network.denoise(z0), skips, PROMPTS[i % len(PROMPTS)])
    restored = network.autoencoder.to_image(features.float())
    return KeptCrops(
        factor,
        *((images * 255).round().byte() for images in (degraded, clean)),
        *(tensor.half() for tensor in (features, skips[0], restored)),
    )
