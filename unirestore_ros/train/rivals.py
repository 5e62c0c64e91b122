"""Training of what UniRestore is compared with.

Baselines of equal compute learn on the same crops by the same image loss (the URIE-like one by a
frozen segmenter's); ablations are UniRestore with a part taken out.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from unirestore_ros.files import written_beside
from unirestore_ros.model import UniRestore
from unirestore_ros.model.baselines import BASELINES, save_baseline
from unirestore_ros.model.weights import placed
from unirestore_ros.train import stages
from unirestore_ros.train.downstream import Segmenter
from unirestore_ros.train.judges import NORM_BATCHES, averaged
from unirestore_ros.train.labelled import LabelledSampler
from unirestore_ros.train.loop import Losses, Plan, Run
from unirestore_ros.train.pairs import BATCH, CROP, PairSampler
from unirestore_ros.train.plot import plot_curves, plot_losses, recorded
from unirestore_ros.train.prepare import frames_in

PLANS = {
    "nafnet": Plan(13100, 1e-3, warm_up=50, average=0.995),
    "promptir": Plan(700, 1e-3, warm_up=50, average=0.99),
    "urie": Plan(800, 1e-3, warm_up=50, average=0.99),
    "retrained-seg": Plan(300, 7e-4, warm_up=20, average=0.98),
    "retrained-det": Plan(300, 7e-4, warm_up=20, average=0.98),
    "retrained-cls": Plan(200, 5e-4, warm_up=20, average=0.98),
    "control": Plan(600, 5e-4, warm_up=50, average=0.99),
    "without-cfrm": Plan(600, 5e-4, warm_up=50, average=0.99),
    "without-denoise": Plan(600, 5e-4, warm_up=50, average=0.99),
}
ABLATIONS = ("control", "without-cfrm", "without-denoise")
"""Of one length, from one start, on the same crops: what they give stands side by side."""
RATES = (5e-4, 1e-3, 2e-3)
TRIAL = 120
JUDGED_BATCHES = 32
"""On which rates are compared: crops that no trial was trained on."""
JUDGE_SEED = 1_000_003
_LAST = 10
"""Recorded values whose mean is told as the loss at the end."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where and how to train."""

    work: Path
    seed: int
    device: torch.device
    bf16: bool = False

    def pairs(self, seed: int) -> PairSampler:
        return PairSampler(frames_in(self.work), self.seed + seed, self.device)

    def labelled(self, seed: int) -> LabelledSampler:
        return LabelledSampler(frames_in(self.work), self.seed + seed, self.device)

    def run(self, folder: Path, network: nn.Module, plan: Plan) -> Run:
        groups: list[dict[str, object]] = [{"params": list(network.parameters())}]
        return Run(folder, network, groups, plan, self.bf16)

    def fresh(self, name: str) -> nn.Module:
        """The same numbers for every learning rate."""
        torch.manual_seed(self.seed)
        return placed(BASELINES[name].make(), self.device)


@dataclasses.dataclass(frozen=True)
class Beginning(Plan):
    """The first iterations of a plan of ``length``, at its rates."""

    length: int = 0

    def rate(self, iteration: int) -> float:
        return Plan(self.length, self.learning_rate, self.warm_up).rate(iteration)


def beginning(plan: Plan, iterations: int) -> Plan:
    values = dataclasses.asdict(plan) | {"iterations": min(iterations, plan.iterations)}
    return Beginning(**values, length=plan.iterations)


# --- by the image loss ----------------------------------------------------------------------------


def train_restorer(setting: Setting, name: str, plan: Plan, folder: Path | None = None) -> Run:
    """On the crops that UniRestore's stage 0 sees, by the image's loss alone."""
    network = setting.fresh(name)
    run = setting.run(folder or setting.work / name, network, plan)
    pairs = setting.pairs(run.iteration)

    def step(_: int) -> Losses:
        degraded, clean = pairs(BATCH, CROP)
        return {"image": stages.IMAGE_WEIGHT * stages.image_loss(network(degraded), clean)}

    run.train(step)
    plot_losses(run.folder)
    return run


def train_best_rate(
    setting: Setting, name: str, plan: Plan, rates: Sequence[float], trial: int
) -> Path:
    """The first ``trial`` iterations at each rate, from the same numbers and on the same crops; the
    best is trained on to the end. Returns its folder; ``rates.json`` and ``.png`` lie beside."""
    folders = {rate: setting.work / name / f"rate-{rate:g}" for rate in rates}
    losses = {}
    for rate, folder in folders.items():
        file = folder / "trial.json"
        if not file.exists():
            plan_of = dataclasses.replace(plan, learning_rate=rate)
            run = train_restorer(setting, name, beginning(plan_of, trial), folder)
            with written_beside(file) as beside:
                beside.write_text(json.dumps(restoration_loss(setting, run.average, trial)))
        losses[rate] = float(json.loads(file.read_text()))
    best = min(losses, key=lambda rate: losses[rate])
    table = {"losses": {f"{rate:g}": loss for rate, loss in losses.items()}, "best": best,
             "iterations": trial}  # fmt: skip
    with written_beside(setting.work / name / "rates.json") as beside:
        beside.write_text(json.dumps(table, indent=1) + "\n")
    logging.info("%s: loss after %d iterations by rate %s", name, trial, table["losses"])
    train_restorer(setting, name, dataclasses.replace(plan, learning_rate=best), folders[best])
    labels = {f"{rate:g}": folder for rate, folder in folders.items()}
    plot_curves({name: labels}, setting.work / name / "rates.png")
    return folders[best]


@torch.inference_mode()
def restoration_loss(setting: Setting, network: nn.Module, trial: int) -> float:
    """Mean image loss on crops that every rate is judged by; infinite where it is no number."""
    pairs = setting.pairs(JUDGE_SEED)
    values = []
    for _ in range(min(JUDGED_BATCHES, trial)):
        degraded, clean = pairs(BATCH, CROP)
        values.append(float(stages.image_loss(network(degraded), clean)))
    return float(np.nan_to_num(np.mean(values), nan=np.inf))


# --- by a machine's loss --------------------------------------------------------------------------


def train_urie(setting: Setting, judge: Segmenter, plan: Plan) -> Run:
    """By the frozen segmenter's loss alone: what the eye sees does not count."""
    network = setting.fresh("urie")
    run = setting.run(setting.work / "urie", network, plan)
    batches = setting.labelled(run.iteration)

    def step(_: int) -> Losses:
        batch = batches(BATCH, CROP)
        return {"seg": stages.TASK_WEIGHT * judge.loss(network(batch.degraded), batch)}

    average = run.train(step)
    # The averaged weights have statistics of their own.
    update_bn((batches(BATCH, CROP).degraded for _ in range(NORM_BATCHES)), average)
    run.save()
    plot_losses(run.folder)
    return run


# --- UniRestore with a part taken out -------------------------------------------------------------


def train_ablation(setting: Setting, name: str, plan: Plan) -> Run:
    """Taken out of what stage 1 gave; the rest is trained on by the losses of stage 0.

    From scratch, no such network has begun to restore in the time that there is for three of them.
    """
    network = setting.fresh(f"unirestore-{name}")
    assert isinstance(network, UniRestore)
    whole = averaged(setting.work, "stage1")
    network.load_state_dict({key: whole[key] for key in network.state_dict()})
    run = setting.run(setting.work / name, network, plan)
    pairs = setting.pairs(run.iteration)
    run.train(lambda _: stages.stage0(network, *pairs(BATCH, CROP)))
    plot_losses(run.folder)
    return run


# --- weights --------------------------------------------------------------------------------------


def run_folder(work: Path, name: str) -> Path:
    """Of the run that ``name``'s weights come from."""
    if name == "nafnet":
        file = work / name / "rates.json"
        if not file.exists():
            raise ValueError(f"{file} is not there: run `train nafnet` first")
        return work / name / f"rate-{json.loads(file.read_text())['best']:g}"
    return work / name.removeprefix("unirestore-")


def export_baseline(work: Path, name: str, file: Path) -> None:
    """The averaged weights of a run as they stand, with how they came about."""
    folder = run_folder(work, name)
    checkpoint = folder / "checkpoint.pt"
    if not checkpoint.exists():
        command = name.removeprefix("unirestore-")
        raise ValueError(f"{checkpoint} is not there: run `train {command}` first")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network = BASELINES[name].make()
    network.load_state_dict(state["average"])
    save_baseline(name, network, _training(folder, state), file)


def _training(folder: Path, state: dict[str, Any]) -> dict[str, Any]:
    lines = recorded(folder)
    names = sorted(set(lines[-1]) - {"iteration", "seconds", "rate"})
    return {
        "iterations": state["iteration"],
        "minutes": round(state["seconds"] / 60, 1),
        "rate": max(line["rate"] for line in lines),
        "losses": {n: round(float(np.mean([line[n] for line in lines[-_LAST:] if n in line])), 5)
                   for n in names},
    }  # fmt: skip
