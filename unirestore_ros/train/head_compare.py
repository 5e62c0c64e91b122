"""`train head-compare`: is a head on the adapter's features as good as one on the restored image,
and better than one on the degraded pixels, and at what cost?

Three heads of one size see the same crops in the same order. Each is trained at three learning
rates, and the one whose loss is least on frames held out of training is scored.
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

from unirestore_ros.evaluate.metrics import confidence_interval, confusion, drawn_weights, mean_ious
from unirestore_ros.files import sha256_of, written_beside
from unirestore_ros.model import UniRestore
from unirestore_ros.model.detail import enlarged
from unirestore_ros.model.heads import (
    Backbone,
    FeatureStem,
    ImageStem,
    SegmentationNetwork,
)
from unirestore_ros.model.weights import load_weights, placed
from unirestore_ros.tasks import SEGMENTATION_CLASSES
from unirestore_ros.train.curves import plot_rates, rate_folder
from unirestore_ros.train.data import SUFFIX, Annotation, Image, label_counts, to_tensor
from unirestore_ros.train.heads import (
    SEVERITY,
    SHORT_SHA,
    MapSampler,
    degraded_version,
    head_input,
    head_loss,
    labelled_names,
    scoring_images,
    set_statistics,
    trunk,
)
from unirestore_ros.train.loop import Plan, Setting, search_learning_rate
from unirestore_ros.train.losses import STRIDE, Losses, class_weights
from unirestore_ros.train.prepare import spread

ADAPTER, RESTORED, DEGRADED = "adapter features", "restored image", "degraded pixels"
INPUTS = (ADAPTER, RESTORED, DEGRADED)
TASK = "seg"  # whose prompt makes both the features and the restored image
RATES = (1e-3, 3e-3, 9e-3)
CROP_CELLS = 32
# Every other crop is drawn around a box, because small things are rare.
NEAR_BOX = (False, True) * 4
HELD_OUT_EVERY = 8
HELD_OUT_BATCHES, NORM_BATCHES = 6, 20
Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What to compare heads on: frozen weights, prepared frames, labelled images to score on."""

    weights: Path
    data: Path
    limit: int | None
    """At most so many images are scored."""
    frames: int
    """At most so many prepared frames are used: an eighth of them held out, the rest trained on."""
    iterations: int


@dataclasses.dataclass(frozen=True)
class HeadFrame:
    """One frame as each of INPUTS, (C, h, w) float16 or uint8, and its annotation."""

    inputs: dict[str, NDArray]
    note: Annotation


@dataclasses.dataclass(frozen=True)
class TrainedHead:
    """A head on one input, at the best of the learning rates, and the held-out loss at each."""

    network: SegmentationNetwork
    learning_rate: float
    losses: dict[str, float]


def compare_heads(setting: Setting, comparison: Comparison, out: Path) -> None:
    """Train and score the heads; write the JSON, and curves to the folder named after it."""
    network: UniRestore = load_weights(comparison.weights).to(setting.device)
    frames = training_frames(network, setting.frames, comparison.frames)
    sha = sha256_of(comparison.weights)
    folder = setting.work / f"head-compare-{sha[:SHORT_SHA]}"
    searches = {name: folder / name.replace(" ", "-") for name in INPUTS}
    trained = {
        name: _best_head(setting, frames, name, searches[name], comparison.iterations)
        for name in INPUTS
    }
    scored = [
        head_frame(network, degraded, note)
        for _, degraded, note in scoring_images(comparison.data, comparison.limit)
    ]
    draws = {name: _miou_draws(trained[name].network, scored, name) for name in INPUTS}
    content = {
        "meta": _meta(comparison, len(frames), scored),
        "heads": [_row(network, name, trained[name], draws[name], scored[0]) for name in INPUTS],
        "head_differences": [
            {"of": ADAPTER, "less": name, **confidence_interval(draws[ADAPTER] - draws[name])}
            for name in (RESTORED, DEGRADED)
        ],
    }
    with written_beside(out) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n")
    plot_rates(searches, RATES, out.with_suffix("") / "head_curves.png")


# --- inputs


@torch.inference_mode()
def head_frame(network: UniRestore, image: Image, note: Annotation) -> HeadFrame:
    """Make features and restored image of a degraded RGB image (H, W, 3) uint8."""
    zt, skips = trunk(network, to_tensor([image], next(network.parameters()).device))
    height, width = image.shape[:2]
    features = network.adapt(zt, skips, TASK, STRIDE)[0, :, : height // STRIDE, : width // STRIDE]
    restored = network.decode(zt, skips, TASK)[0, :, :height, :width].clamp(0, 1) * 255
    inputs = {
        ADAPTER: features.half().cpu().numpy(),
        RESTORED: restored.round().byte().cpu().numpy(),
        DEGRADED: np.ascontiguousarray(image.transpose(2, 0, 1)),
    }
    return HeadFrame(inputs, note)


def training_frames(network: UniRestore, frames: Path, limit: int) -> list[HeadFrame]:
    """Make the inputs of at most ``limit`` labelled frames, each in one degraded version."""
    made = []
    for name in tqdm(spread(labelled_names(frames), limit), desc="frames", unit="frame"):
        stack = np.load(frames / f"{name}.npy", mmap_mode="r")
        image = np.array(stack[degraded_version(frames, name)])
        made.append(head_frame(network, image, Annotation.load(frames / f"{name}{SUFFIX}")))
    return made


def sampler(frames: Sequence[HeadFrame], name: str, seed: int, device: torch.device) -> MapSampler:
    """Draw crops of one of INPUTS: the same crops of each, by the seed."""
    return MapSampler([f.inputs[name] for f in frames], [f.note for f in frames], seed, device)


# --- training


def fresh_head(name: str, frames: Sequence[HeadFrame]) -> SegmentationNetwork:
    """Make the head for an input: the same network for each but for its first layer."""
    stem: ImageStem | FeatureStem
    if name == ADAPTER:
        stem = FeatureStem(frames[0].inputs[name].shape[0])
        set_statistics(stem, [frame.inputs[name] for frame in frames])
    else:
        stem = ImageStem()
    return SegmentationNetwork(len(SEGMENTATION_CLASSES), Backbone(stem))


def _best_head(
    setting: Setting, frames: Sequence[HeadFrame], name: str, folder: Path, iterations: int
) -> TrainedHead:
    held_out = frames[::HELD_OUT_EVERY]
    learned = [frame for i, frame in enumerate(frames) if i % HELD_OUT_EVERY]
    counts = label_counts([frame.note for frame in frames], len(SEGMENTATION_CLASSES))
    weights = class_weights(counts).to(setting.device)

    def train(rate: float, at: Path) -> SegmentationNetwork:
        torch.manual_seed(setting.seed)
        head = placed(fresh_head(name, learned), setting.device)
        run = setting.run(at, head, Plan(iterations, rate, warm_up=30, ema_decay=0.97))
        draw = sampler(learned, name, setting.seed + run.iteration, setting.device)

        def step(_: int) -> Losses:
            return {"loss": head_loss(head, *draw(CROP_CELLS, NEAR_BOX), weights)}

        average = run.train(step)
        update_bn((draw(CROP_CELLS, NEAR_BOX)[0] for _ in range(NORM_BATCHES)), average)
        assert isinstance(average, SegmentationNetwork)
        return average.eval()

    def held_out_loss(rate: float, at: Path) -> float:
        heads[rate] = train(rate, at)
        draw = sampler(held_out, name, 1, setting.device)
        batches = (draw(CROP_CELLS, NEAR_BOX) for _ in range(HELD_OUT_BATCHES))
        with torch.no_grad():
            values = [float(head_loss(heads[rate], *batch, weights)) for batch in batches]
        return float(np.mean(values))

    heads: dict[float, SegmentationNetwork] = {}
    best, losses = search_learning_rate(folder, RATES, iterations, held_out_loss)
    # A search that was cut off did not train its first rates again: the run is read back.
    head = heads[best] if best in heads else train(best, rate_folder(folder, best))
    return TrainedHead(head, best, losses)


# --- scores


@torch.inference_mode()
def _miou_draws(head: nn.Module, frames: Sequence[HeadFrame], name: str) -> NDArray[np.float64]:
    """Return the mIoU of all frames, and of every bootstrap draw of them."""
    device = next(head.parameters()).device
    matrices = []
    for frame in tqdm(frames, desc=name, unit="frame"):
        size = torch.empty(1, 1, *frame.note.labels.shape)
        logits = head(head_input(frame.inputs[name][None], device)).cpu()
        labels = enlarged(logits, size).argmax(1)[0].numpy()
        matrices.append(confusion(labels, frame.note.labels, len(SEGMENTATION_CLASSES)))
    return mean_ious(np.tensordot(drawn_weights(len(frames)), np.stack(matrices), axes=1))


def _row(
    network: UniRestore,
    name: str,
    trained: TrainedHead,
    draws: NDArray[np.float64],
    frame: HeadFrame,
) -> Json:
    device = next(network.parameters()).device
    x, image = (head_input(frame.inputs[one][None], device) for one in (name, DEGRADED))
    head_work = _gflop(lambda: trained.network(x))
    before = _gflop(lambda: _before_head(network, name, image))
    return {
        "on": name,
        **{key: value for key, value in confidence_interval(draws).items() if key != "value"},
        "miou": round(float(draws[0]), 4),
        "parameters": sum(parameter.numel() for parameter in trained.network.parameters()),
        "rate": trained.learning_rate,
        "held_out_loss": {rate: round(loss, 4) for rate, loss in trained.losses.items()},
        "head_gflop": round(head_work, 2),
        "path_gflop": round(before + head_work, 2),
    }


def _before_head(network: UniRestore, name: str, image: Tensor) -> None:
    """Compute what a head on this input needs of the restorer."""
    if name == DEGRADED:
        return
    zt, skips = trunk(network, image)
    if name == ADAPTER:
        network.adapt(zt, skips, TASK, STRIDE)
    else:
        network.decode(zt, skips, TASK)


@torch.inference_mode()
def _gflop(call: Callable[[], object]) -> float:
    """Count the multiplications and additions of convolutions and matrix products, in 1e9."""
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops()) / 1e9


def _meta(comparison: Comparison, frames: int, scored: Sequence[HeadFrame]) -> Json:
    height, width = scored[0].note.labels.shape
    return {
        "data": "/".join(comparison.data.resolve().parts[-2:]),
        "images": len(scored),
        "severity": SEVERITY,
        "frames": frames,
        "iterations": comparison.iterations,
        "batch": len(NEAR_BOX),
        "rates": list(RATES),
        "size": f"{width}x{height}",
        "weights_sha256": sha256_of(comparison.weights),
    }
