"""The last stage, `train refine`: the whole network trained on, from finished weights.

Iterations take turns: pairs at the working size, pairs at two and three times it (for the detail
gain), and a machine task's loss through its prompt.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unirestore_ros.model import UniRestore
from unirestore_ros.model.autoencoder import TinyAutoencoder
from unirestore_ros.model.detail import fresh_gain, fused, reduced_by
from unirestore_ros.model.weights import SHIPPED_WEIGHTS, load_weights, placed, save_weights
from unirestore_ros.train.data import (
    LABELLED_CLEAN_SHARE,
    LabelledBatch,
    LabelledSampler,
    PairSampler,
    Stored,
    as_images,
    labelled_batch,
    loaded,
)
from unirestore_ros.train.gain import DETAIL_FLOOR
from unirestore_ros.train.loop import PROMPT_RATE, Learning, Plan, Run, Setting, read_ema
from unirestore_ros.train.losses import (
    IMAGE_WEIGHT,
    PAIR_FLOOR,
    TASK_WEIGHT,
    Losses,
    TaskLoss,
    clean_features,
    control_loss,
    feature_loss,
    image_loss,
    stage3,
)
from unirestore_ros.train.prepare import DRIVING
from unirestore_ros.train.task_networks import load_task_networks

NAME, PROMPTS_NAME = "refine", "prompts"
# What `train prompts` trains on in turn. Segmentation's prompt is far above perception's already.
PROMPT_TURNS = ("det", "cls")
# What the iterations train on, one after the other.
_ROUND = ("pairs", "detail2", "pairs", "seg", "pairs", "{0}", "pairs", "{1}", "pairs", "seg")
TURNS = tuple(
    turn.format(*names) for names in (("detail3", "cls"), ("detail4", "det")) for turn in _ROUND
)
# Crops for each in a batch of pairs, and their side in pixels, by how many times the working size
# they have.
DETAIL_CROPS = {2: (1.0, 352), 3: (1.5, 336), 4: (2.0, 320)}
DETAIL_PROMPTS = ("ir", "ir", "seg", "ir", "cls", "ir", "det")
# How many crops of a machine task are clean: segmentation's prompt must leave clean images alone.
CLEAN_SHARES = {"seg": 0.2}
# The same in pairs: these weights can tell a soft image from a sharp one.
PAIR_CLEAN_SHARE = 0.15
SLOWER_PROMPTS = PROMPT_RATE / 4
# Weight of a grey level of phase deviation; at 0.3 PSNR falls by 0.3 dB.
PHASE_WEIGHT = 0.04
# Side of the tiles, in pixels, in each of which a grid of two pixels is looked for.
TILE = 48


def refine(
    setting: Setting,
    plan: Plan,
    batch: int,
    crop: int,
    workers: int,
    downstream: Path,
    start: Path | None = None,
) -> Run:
    """Train on from the weights in ``start`` (None: the shipped ones).

    ``workers``: processes that draw the crops, 0: this one. ``downstream``: the file of the frozen
    task networks.
    """
    network = placed(without_notch(_starting_network(start)), setting.device)
    run = setting.run(NAME, network, plan, _learning(network))
    crops = loaded(Crops(setting, batch, crop).draw, run.left, workers, setting.device)
    task_losses = _task_losses(downstream, setting.device)

    def step(iteration: int) -> Losses:
        turn = TURNS[iteration % len(TURNS)]
        drawn = next(crops)
        if isinstance(drawn, Stored):
            labelled = labelled_batch(drawn, setting.device)
            return machine_losses(network, turn, labelled, task_losses[turn])
        degraded, clean = (as_images(images, setting.device) for images in drawn)
        if turn == "pairs":
            return perception_losses(network, degraded, clean)
        task = DETAIL_PROMPTS[iteration // 5 % len(DETAIL_PROMPTS)]
        return detail_losses(network, degraded, clean, int(turn[-1]), task)

    run.train(step)
    run.finish()
    return run


def train_prompts(
    setting: Setting, plan: Plan, batch: int, crop: int, downstream: Path, start: Path | None = None
) -> Run:
    """Train the prompts of detection and classification alone, on from finished weights."""
    network = placed(_starting_network(start), setting.device)
    prompts = [network.prompts[task] for task in PROMPT_TURNS]
    run = setting.run(PROMPTS_NAME, network, plan, {PROMPT_RATE: prompts})
    task_losses = _task_losses(downstream, setting.device)
    batches = setting.labelled(7 + run.iteration)

    def step(iteration: int) -> Losses:
        task = PROMPT_TURNS[iteration % len(PROMPT_TURNS)]
        return stage3(network, task, batches(batch, crop, near_box=True), task_losses[task])

    run.train(step)
    run.finish()
    return run


def export_refined(setting: Setting, file: Path, start: Path | None, run: str = NAME) -> None:
    """Write the weights of `train refine`, or of another ``run`` after it, in float16; ``start``:
    the weights that it began with."""
    network = _starting_network(start)
    network.load_state_dict(read_ema(setting.work, run))
    save_weights(network, file)


def _starting_network(start: Path | None) -> UniRestore:
    return with_detail_gain(load_weights(start or SHIPPED_WEIGHTS / "tiny.safetensors"))


def _learning(network: UniRestore) -> Learning:
    prompts = list(network.prompts.parameters())
    others = [p for name, p in network.named_parameters() if not name.startswith("prompts.")]
    return {1.0: others, SLOWER_PROMPTS: prompts}


def _task_losses(downstream: Path, device: torch.device) -> dict[str, TaskLoss]:
    networks = load_task_networks(downstream)
    return {
        "seg": placed(networks.segmenter, device).loss,
        "det": placed(networks.detector, device).loss,
        "cls": placed(networks.classifier, device).loss,
    }


# --- what is drawn


class Crops:
    """The crops of each iteration, as the samplers of ``data.py`` draw them."""

    def __init__(self, setting: Setting, batch: int, side: int) -> None:
        frames, device = setting.frames, torch.device("cpu")
        self._seed, self._batch, self._side = setting.seed + 5, batch, side
        self._pairs = PairSampler(frames, self._seed, device, DRIVING, PAIR_CLEAN_SHARE)
        self._labelled = {
            share: LabelledSampler(frames, self._seed, device, share)
            for share in {LABELLED_CLEAN_SHARE, *CLEAN_SHARES.values()}
        }

    def draw(self, iteration: int) -> Stored | tuple[Tensor, Tensor]:
        turn = TURNS[iteration % len(TURNS)]
        if turn in ("seg", "det", "cls"):
            labelled = self._labelled[CLEAN_SHARES.get(turn, LABELLED_CLEAN_SHARE)]
            labelled.reseed(self._seed, iteration)
            return labelled.draw(self._batch, self._side, near_box=turn != "seg")
        self._pairs.reseed(self._seed, iteration)
        if turn == "pairs":
            return self._pairs.draw(self._batch, self._side)
        share, side = DETAIL_CROPS[int(turn[-1])]
        return self._pairs.draw(round(share * self._batch), side)


# --- what learns


def with_detail_gain(network: UniRestore) -> UniRestore:
    """Give the network a fresh detail gain, where it has none yet."""
    if network.detail is None:
        network.config = dataclasses.replace(network.config, detail_gain=True)
        network.detail = fresh_gain(network.config)
    return network


def without_notch(network: UniRestore) -> UniRestore:
    """Take out the filter behind the network's last up-sampling, so that training sees the grid and
    the phase loss can take it out of the weights."""
    autoencoder = network.autoencoder
    assert isinstance(autoencoder, TinyAutoencoder)
    autoencoder.notch = nn.Identity()
    return network


# --- losses


def perception_losses(network: UniRestore, degraded: Tensor, clean: Tensor) -> Losses:
    """Return the losses of pairs (B, 3, S, S) at the working size: the image's and the phases', and
    stage 1's losses of the features where these are trained."""
    z0, skips = network.encode(degraded)
    restored = network.decode(network.denoise(z0, noise=torch.randn_like(z0)), skips, "ir")
    losses = {
        "image": IMAGE_WEIGHT * image_loss(restored, clean, PAIR_FLOOR),
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
    """Return the losses of pairs (B, 3, S, S) at ``factor`` times the working size, fused as the
    engine does it.

    A machine task's prompt trains the gain alone: nothing says what its image should look like.
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
        "small": IMAGE_WEIGHT / 2 * image_loss(restored, small, PAIR_FLOOR),
        "detail": IMAGE_WEIGHT * image_loss(whole, clean, DETAIL_FLOOR),
        "phase": PHASE_WEIGHT * phase_loss(restored, small),
    }


def machine_losses(
    network: UniRestore, task: str, batch: LabelledBatch, task_loss: TaskLoss
) -> Losses:
    """Return the loss of the task's frozen network on the image of its prompt, and a tenth of the
    image's loss, which keeps perception where it is."""
    z0, skips = network.encode(batch.degraded)
    zt = network.denoise(z0, noise=torch.randn_like(z0))
    restored = network.decode(zt, skips, "ir")
    return {
        "image": IMAGE_WEIGHT / 10 * image_loss(restored, batch.clean, PAIR_FLOOR),
        task: TASK_WEIGHT * task_loss(network.decode(zt, skips, task), batch),
    }


def phase_loss(image: Tensor, clean: Tensor) -> Tensor:
    """Return the phase deviation of the error in grey levels: of a grid of two pixels in tiles of
    ``TILE``, and of one of eight pixels, the latent's stride, in the whole crop."""
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
