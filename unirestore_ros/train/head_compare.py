"""`train head-compare`: is a head on the adapter's features as good as one on the restored image,
and better than one on the degraded pixels, at what cost?

Three heads of one size see the same crops in the same order; each is trained at three learning
rates, and the rate whose loss is least on frames held out of training is taken.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from unirestore_ros.evaluate.metrics import confusion, drawn_weights, interval, mean_ious
from unirestore_ros.files import sha256_of, written_beside
from unirestore_ros.model import UniRestore
from unirestore_ros.model.heads import (
    Backbone,
    FeatureStem,
    Head,
    ImageStem,
    SegmentationNetwork,
    enlarged,
)
from unirestore_ros.model.unirestore import pad_to_multiple
from unirestore_ros.model.weights import load_weights, placed
from unirestore_ros.tasks import SEGMENTATION_CLASSES
from unirestore_ros.train.features import STRIDE
from unirestore_ros.train.head_inputs import (
    ADAPTER,
    INPUTS,
    RESTORED,
    TASK,
    HeadFrame,
    HeadSampler,
    scaled,
    scoring_frames,
    training_frames,
)
from unirestore_ros.train.heads import segmentation_loss
from unirestore_ros.train.loop import Losses, Plan, Run
from unirestore_ros.train.plot import plot_curves
from unirestore_ros.train.prepare import frames_in

RATES = (1e-3, 3e-3, 9e-3)
BATCH, CROP_CELLS = 8, 32
HELD_OUT_EVERY = 8
HELD_OUT_BATCHES, NORM_BATCHES = 6, 20
SEVERITY = 3
Json = dict[str, Any]
HeadLoss = Callable[[Head, Tensor, Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Settings:
    work: Path
    weights: Path
    data: Path
    """Labelled images that the heads are scored on."""
    limit: int | None
    frames: int
    """Prepared frames that they are trained on, an eighth of them held out."""
    iterations: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Trained:
    """A head on one input, by the best of the learning rates."""

    head: nn.Module
    rate: float
    losses: dict[str, float]
    """Held out, by learning rate."""


def compare_heads(settings: Settings, out: Path, device: torch.device) -> None:
    """Train, score, and write the JSON with the curves in the folder named after it."""
    network: UniRestore = load_weights(settings.weights).to(device)
    frames = training_frames(network, frames_in(settings.work), settings.frames)
    folder = settings.work / f"head-compare-{sha256_of(settings.weights)[:12]}"
    trained = {name: _best(settings, frames, name, folder, device) for name in INPUTS}
    scored = scoring_frames(network, settings.data, settings.limit, SEVERITY)
    draws = {name: _draws(trained[name].head, scored, name, device) for name in INPUTS}
    rows = [_row(network, name, trained[name], draws[name], scored[0]) for name in INPUTS]
    differences = [
        {"of": ADAPTER, "less": name, **interval(draws[ADAPTER] - draws[name])}
        for name in INPUTS if name != ADAPTER
    ]  # fmt: skip
    content = {"meta": _meta(settings, frames, scored), "heads": rows}
    with written_beside(out) as beside:
        beside.write_text(json.dumps({**content, "head_differences": differences}, indent=1) + "\n")
    curves = {name: {f"{r:g}": _run_folder(folder, name, r) for r in RATES} for name in INPUTS}
    plot_curves(curves, out.with_suffix("") / "head_curves.png")


def _run_folder(folder: Path, name: str, rate: float) -> Path:
    return folder / f"{name.replace(' ', '-')}-{rate:g}"


def fresh_head(name: str, frames: Sequence[HeadFrame]) -> SegmentationNetwork:
    """The same network for each input but for its first layer."""
    stem: ImageStem | FeatureStem
    if name == ADAPTER:
        stem = FeatureStem(frames[0].inputs[name].shape[0])
        few = np.stack([f.inputs[name].astype(np.float32).mean(axis=(1, 2)) for f in frames])
        spread = np.stack([f.inputs[name].astype(np.float32).std(axis=(1, 2)) for f in frames])
        stem.mean = torch.from_numpy(few.mean(axis=0)).view(1, -1, 1, 1)
        stem.deviation = torch.from_numpy(spread.mean(axis=0) + 1e-3).view(1, -1, 1, 1)
    else:
        stem = ImageStem()
    return SegmentationNetwork(len(SEGMENTATION_CLASSES), Backbone(stem))


def _best(
    settings: Settings, frames: Sequence[HeadFrame], name: str, folder: Path, device: torch.device
) -> Trained:
    held_out = frames[::HELD_OUT_EVERY]
    learnt = [frame for i, frame in enumerate(frames) if i % HELD_OUT_EVERY]
    loss = segmentation_loss(_label_counts(frames).to(device))
    losses: dict[float, float] = {}
    heads: dict[float, nn.Module] = {}
    for rate in RATES:
        torch.manual_seed(settings.seed)
        head = placed(fresh_head(name, learnt), device)
        plan = Plan(settings.iterations, rate, warm_up=30, average=0.97)
        groups: list[dict[str, object]] = [{"params": list(head.parameters())}]
        run = Run(_run_folder(folder, name, rate), head, groups, plan)
        draw = HeadSampler(learnt, name, settings.seed + run.iteration, device)
        average = run.train(_step(loss, head, draw))
        update_bn((draw(BATCH, CROP_CELLS)[0] for _ in range(NORM_BATCHES)), average)
        assert isinstance(average, SegmentationNetwork)
        heads[rate] = average.eval()
        losses[rate] = _held_out_loss(average, loss, HeadSampler(held_out, name, 1, device))
    best = min(RATES, key=lambda rate: losses[rate])
    return Trained(heads[best], best, {f"{rate:g}": round(v, 4) for rate, v in losses.items()})


def _step(loss: HeadLoss, head: Head, draw: HeadSampler) -> Callable[[int], Losses]:
    return lambda _: {"loss": loss(head, *draw(BATCH, CROP_CELLS))}


def _label_counts(frames: Sequence[HeadFrame]) -> Tensor:
    labels = np.concatenate([frame.note.labels[::4, ::4].ravel() for frame in frames])
    counts = np.bincount(labels, minlength=len(SEGMENTATION_CLASSES))[: len(SEGMENTATION_CLASSES)]
    return torch.from_numpy(counts).float()


@torch.no_grad()
def _held_out_loss(head: Head, loss: HeadLoss, draw: HeadSampler) -> float:
    batches = [draw(BATCH, CROP_CELLS) for _ in range(HELD_OUT_BATCHES)]
    return float(np.mean([float(loss(head, *batch)) for batch in batches]))


@torch.inference_mode()
def _draws(
    head: nn.Module, frames: Sequence[HeadFrame], name: str, device: torch.device
) -> NDArray[np.float64]:
    """mIoU of all frames, and of every draw of them."""
    matrices = []
    for frame in tqdm(frames, desc=name, unit="frame"):
        size = torch.empty(1, 1, *frame.note.labels.shape)
        logits = head(scaled(frame.inputs[name][None], device)).cpu()
        labels = enlarged(logits, size).argmax(1)[0].numpy()
        matrices.append(confusion(labels, frame.note.labels, len(SEGMENTATION_CLASSES)))
    return mean_ious(np.tensordot(drawn_weights(len(frames)), np.stack(matrices), axes=1))


def _row(
    network: UniRestore, name: str, trained: Trained, draws: NDArray[np.float64], frame: HeadFrame
) -> Json:
    parameters = sum(parameter.numel() for parameter in trained.head.parameters())
    head_work = _gflop(lambda: trained.head(_on(network, frame.inputs[name])))
    before = _gflop(lambda: _made(network, name, _on(network, frame.inputs["degraded pixels"])))
    return {
        "on": name,
        **{key: value for key, value in interval(draws).items() if key != "value"},
        "miou": round(float(draws[0]), 4),
        "parameters": parameters,
        "rate": trained.rate,
        "held_out_loss": trained.losses,
        "head_gflop": round(head_work, 2),
        "path_gflop": round(before + head_work, 2),
    }


def _on(network: UniRestore, values: NDArray) -> Tensor:
    return scaled(values[None], next(network.parameters()).device)


def _made(network: UniRestore, name: str, images: Tensor) -> None:
    """What is computed before the head."""
    if name not in (ADAPTER, RESTORED):
        return
    z0, skips = network.encode(pad_to_multiple(images, network.config.multiple))
    zt = network.denoise(z0)
    if name == ADAPTER:
        network.adapt(zt, skips, TASK, STRIDE)
    else:
        network.decode(zt, skips, TASK)


@torch.inference_mode()
def _gflop(call: Callable[[], object]) -> float:
    """Multiplications and additions of convolutions and matrix products, in 1e9."""
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops()) / 1e9


def _meta(settings: Settings, frames: Sequence[HeadFrame], scored: Sequence[HeadFrame]) -> Json:
    height, width = scored[0].note.labels.shape
    return {
        "data": "/".join(settings.data.resolve().parts[-2:]),
        "images": len(scored),
        "severity": SEVERITY,
        "frames": len(frames),
        "iterations": settings.iterations,
        "batch": BATCH,
        "rates": list(RATES),
        "size": f"{width}x{height}",
        "weights_sha256": sha256_of(settings.weights),
    }
