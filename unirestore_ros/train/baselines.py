"""Training of what UniRestore is compared with.

NAFNet, of equal compute, learns on the crops of stage 0 by the same image loss. Ablations are
UniRestore with a part taken out.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from unirestore_ros.model import UniRestore
from unirestore_ros.model.baselines import BASELINES, load_baseline, save_baseline
from unirestore_ros.model.weights import placed
from unirestore_ros.train import losses
from unirestore_ros.train.curves import NOT_A_LOSS, plot_rates, rate_folder, recorded
from unirestore_ros.train.data import BATCH, CROP, PairSampler, as_images, loaded
from unirestore_ros.train.loop import (
    Plan,
    Run,
    Setting,
    read_checkpoint,
    read_ema,
    search_learning_rate,
)
from unirestore_ros.train.losses import PAIR_FLOOR, Losses
from unirestore_ros.train.prepare import DRIVING
from unirestore_ros.train.task_networks import (
    RETRAINED,
    read_task_networks,
    save_task_networks,
)

RATES = (5e-4, 1e-3, 2e-3)
TRIAL = 120
# Learning rates are compared on so many batches of crops that no trial was trained on.
HELD_OUT_BATCHES, HELD_OUT_SEED = 32, 1_000_003
LAST = 10  # recorded values whose mean is given as the loss at the end


class Drawing(NamedTuple):
    """How many crops there are in a batch, their side in pixels, and how many processes draw."""

    batch: int
    crop: int
    workers: int


def train_restorer(
    setting: Setting,
    plan: Plan,
    name: str,
    folder: Path | str,
    drawing: Drawing,
    start: Path | None = None,
) -> Run:
    """Train a baseline on the pairs that `train refine` sees, by the image loss alone; on from the
    weights in ``start``, if given."""
    network = _learning_on(setting, name, start) if start else _fresh(setting, name)
    run = setting.run(folder, network, plan)
    device = setting.device
    pairs = PairSampler(setting.frames, setting.seed, torch.device("cpu"), fresh=DRIVING)

    def draw(iteration: int) -> tuple[Tensor, Tensor]:
        pairs.reseed(setting.seed, iteration)
        return pairs.draw(drawing.batch, drawing.crop)

    crops = loaded(draw, run.left, drawing.workers, device)

    def step(_: int) -> Losses:
        degraded, clean = (as_images(images, device) for images in next(crops))
        loss = losses.image_loss(network(degraded), clean, PAIR_FLOOR)
        return {"image": losses.IMAGE_WEIGHT * loss}

    run.train(step)
    run.finish()
    return run


def train_best_rate(
    setting: Setting,
    plan: Plan,
    name: str,
    rates: Sequence[float],
    trial: int,
    batch: int,
    crop: int,
    workers: int,
    start: Path | None = None,
) -> Run:
    """Train a baseline's first ``trial`` iterations at each learning rate, from the same weights
    and on the same crops, and the best of them to the end."""
    folder, drawing = setting.work / name, Drawing(batch, crop, workers)

    def held_out_loss(rate: float, at: Path) -> float:
        begun = dataclasses.replace(plan, learning_rate=rate).first(trial)
        run = train_restorer(setting, begun, name, at, drawing, start)
        return restoration_loss(setting, run.average, min(HELD_OUT_BATCHES, trial))

    best, _ = search_learning_rate(folder, rates, trial, held_out_loss)
    whole = dataclasses.replace(plan, learning_rate=best)
    run = train_restorer(setting, whole, name, rate_folder(folder, best), drawing, start)
    plot_rates({name: folder}, rates, folder / "rates.png")
    return run


@torch.inference_mode()
def restoration_loss(setting: Setting, network: nn.Module, batches: int) -> float:
    """Return the mean image loss on held-out crops, the same for every network."""
    pairs = setting.pairs(HELD_OUT_SEED)
    values = []
    for _ in range(batches):
        degraded, clean = pairs(BATCH, CROP)
        values.append(float(losses.image_loss(network(degraded), clean)))
    return float(np.mean(values))


def train_ablation(setting: Setting, plan: Plan, name: str) -> Run:
    """Take a part out of what stage 1 gave, and train the rest on by the losses of stage 0.

    From scratch, no such network would begin to restore in the time that there is for three.
    """
    network = _fresh(setting, f"unirestore-{name}")
    assert isinstance(network, UniRestore)
    whole = read_ema(setting.work, "stage1")
    network.load_state_dict({key: whole[key] for key in network.state_dict()})
    run = setting.run(name, network, plan)
    pairs = setting.pairs(run.iteration)
    run.train(lambda _: losses.stage0(network, *pairs(BATCH, CROP)))
    run.finish()
    return run


def _fresh(setting: Setting, name: str) -> nn.Module:
    torch.manual_seed(setting.seed)  # the same weights at the start of every trial
    return placed(BASELINES[name].make(), setting.device)


def _learning_on(setting: Setting, name: str, start: Path) -> nn.Module:
    return placed(load_baseline(name, start).train().requires_grad_(True), setting.device)


# --- weights


def export_baseline(work: Path, name: str, file: Path) -> None:
    """Write the averaged weights of a run as they stand, and how it was trained."""
    if name == "retrained":
        save_task_networks(read_task_networks(work, RETRAINED), file)
        return
    folder = _folder_of(work, name)
    state = read_checkpoint(folder, name.removeprefix("unirestore-"))
    network = BASELINES[name].make()
    network.load_state_dict(state["average"])
    save_baseline(name, network, _training(folder, state), file)


def _folder_of(work: Path, name: str) -> Path:
    """Return the folder of the run that a baseline's weights come from."""
    folder = work / name.removeprefix("unirestore-")
    if name != "nafnet":
        return folder
    file = folder / "rates.json"
    if not file.exists():
        raise ValueError(f"{file} is not there: run `train nafnet` first")
    return rate_folder(folder, json.loads(file.read_text())["best"])


def _training(folder: Path, state: dict[str, Any]) -> dict[str, Any]:
    lines = recorded(folder)
    last = {
        name: float(np.mean([line[name] for line in lines[-LAST:] if name in line]))
        for name in sorted(set(lines[-1]) - set(NOT_A_LOSS))
    }
    return {
        "iterations": state["iteration"],
        "minutes": round(state["seconds"] / 60, 1),
        "rate": max(line["rate"] for line in lines),
        "losses": {name: round(value, 5) for name, value in last.items()},
    }
