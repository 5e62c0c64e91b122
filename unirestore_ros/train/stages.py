"""What `train NAME` runs: one table of stages with their plans, and the stages of UniRestore."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from unirestore_ros.files import written_beside
from unirestore_ros.model import TINY, Config, UniRestore
from unirestore_ros.model.baselines import SinglePrompt
from unirestore_ros.model.published import from_sd_turbo
from unirestore_ros.model.weights import load_weights, placed, save_weights
from unirestore_ros.train import losses
from unirestore_ros.train.baselines import (
    RATES,
    train_ablation,
    train_best_rate,
)
from unirestore_ros.train.gain import train_gain
from unirestore_ros.train.heads import train_head
from unirestore_ros.train.loop import PROMPT_RATE, Plan, Run, Setting, read_ema
from unirestore_ros.train.losses import Losses
from unirestore_ros.train.refine import refine, train_prompts
from unirestore_ros.train.task_networks import frozen_task_network, near_box, train_task_network

STAGE2_TASKS = ("ir", "cls", "seg")
ADDED_TASK = "det"


def train_stage0(
    setting: Setting, plan: Plan, batch: int, crop: int, start: Path | None = None
) -> Run:
    """Train `tiny` from the beginning, or on from the weights in ``start``."""
    network = placed(load_weights(start) if start else UniRestore(TINY), setting.device)
    run = setting.run("stage0", network, plan, {1.0: list(network.parameters())})
    pairs = setting.pairs(run.iteration)
    run.train(lambda _: losses.stage0(network, *pairs(batch, crop)))
    run.finish()
    return run


def train_stage1(
    setting: Setting,
    plan: Plan,
    batch: int,
    crop: int,
    sd_turbo: Path | None = None,
    null_embedding: Path | None = None,
) -> Run:
    """Train CFRM and, where there is a denoiser, Controller and SC-Tuner.

    ``sd_turbo``: start from the published size, and not from `tiny`'s stage 0.
    """
    network = _before_stage1(setting, sd_turbo, null_embedding)
    parts: list[nn.Module] = [network.cfrm]
    if network.controller is not None and network.denoiser is not None:
        parts += [network.controller, network.denoiser.csc_editors]
    run = setting.run("stage1", network, plan, {1.0: _parameters(parts)})
    pairs = setting.pairs(1 + run.iteration)
    run.train(lambda _: losses.stage1(network, *pairs(batch, crop)))
    run.finish()
    return run


def train_stage2(setting: Setting, plan: Plan, batch: int, crop: int) -> Run:
    """Train TFA and the prompts of perception, classification and segmentation."""
    network = network_after(setting, "stage1")
    prompts = [network.prompts[task] for task in STAGE2_TASKS]
    return _adapt(setting, "stage2", network, prompts, plan, batch, crop)


def train_single_prompt(setting: Setting, plan: Plan, batch: int, crop: int) -> Run:
    """Train as stage 2 does, with one prompt for every task."""
    network, before = SinglePrompt(TINY), read_ema(setting.work, "stage1")
    shared = {f"prompts.{task}": before["prompts.ir"] for task in TINY.tasks}
    network.load_state_dict(before | shared)
    prompts = [network.prompts[STAGE2_TASKS[0]]]
    network = placed(network, setting.device)
    return _adapt(setting, "single-prompt", network, prompts, plan, batch, crop)


def _adapt(
    setting: Setting,
    name: str,
    network: UniRestore,
    prompts: list[nn.Parameter],
    plan: Plan,
    batch: int,
    crop: int,
) -> Run:
    learning = {1.0: _parameters([network.tfa]), PROMPT_RATE: prompts}
    run = setting.run(name, network, plan, learning)
    task_losses = {
        task: frozen_task_network(setting, task).loss for task in STAGE2_TASKS if task != "ir"
    }
    batches = setting.labelled(2 + run.iteration)

    def step(iteration: int) -> Losses:
        task = STAGE2_TASKS[iteration % len(STAGE2_TASKS)]
        drawn = batches(batch, crop, near_box=task == "cls")
        return losses.stage2(network, task, drawn, task_losses.get(task))

    run.train(step)
    run.finish()
    return run


def train_stage3(setting: Setting, plan: Plan, batch: int, crop: int) -> Run:
    """Train the prompt of detection; every other weight stays as it is, bit by bit."""
    network = network_after(setting, "stage2")
    prompt = network.prompts[ADDED_TASK]
    with torch.no_grad():
        # From zero the prompt ended further off and worse.
        prompt.copy_(network.prompts["ir"])
    run = setting.run("stage3", network, plan, {PROMPT_RATE: [prompt]})
    task_loss = frozen_task_network(setting, ADDED_TASK).loss
    batches = setting.labelled(3 + run.iteration)

    def step(iteration: int) -> Losses:
        drawn = batches(batch, crop, near_box(ADDED_TASK, iteration))
        return losses.stage3(network, ADDED_TASK, drawn, task_loss)

    run.train(step)
    run.finish()
    return run


def _parameters(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters()]


# --- networks between the stages


def network_after(setting: Setting, stage: str) -> UniRestore:
    """Read the averaged network of a stage; `tiny`, unless the work folder names another."""
    file = _config_file(setting)
    config = Config.from_dict(json.loads(file.read_text())) if file.exists() else TINY
    network = UniRestore(config)
    network.load_state_dict(read_ema(setting.work, stage))
    return placed(network, setting.device)


def export(setting: Setting, file: Path) -> None:
    """Write the weights of the last stage in float16."""
    save_weights(network_after(setting, "stage3"), file)


def _before_stage1(
    setting: Setting, sd_turbo: Path | None, null_embedding: Path | None
) -> UniRestore:
    if sd_turbo is None:
        return network_after(setting, "stage0")
    if null_embedding is None:
        raise ValueError("--sd-turbo needs --null-embedding FILE beside it")
    network = from_sd_turbo(sd_turbo, null_embedding, (*STAGE2_TASKS, ADDED_TASK))
    with written_beside(_config_file(setting)) as beside:
        beside.write_text(json.dumps(network.config.to_dict()))
    return placed(network, setting.device)


def _config_file(setting: Setting) -> Path:
    return setting.work / "config.json"


# --- the table


@dataclasses.dataclass(frozen=True)
class Stage:
    """A run of `train`. ``train`` takes the setting, the plan, and the named options."""

    about: str
    plan: Plan
    train: Callable[..., Run]
    options: tuple[str, ...] = ()
    """Options of the command line that it takes, beside those of the plan."""
    rates: tuple[float, ...] = ()
    """Learning rates that it tries, where it takes the best of several."""


def _first_line(function: Callable[..., object]) -> str:
    return (function.__doc__ or "").splitlines()[0]


CROPS = ("batch", "crop")
_ABLATION = Plan(600, 5e-4, warm_up=50, ema_decay=0.99)
_HEAD = Plan(1600, 3e-3, warm_up=50, ema_decay=0.99)
_TASK = "the {} network, on clean images"
_RETRAINED = "the {} network, trained on with degraded crops"

# The plans are what the shipped weights took, stage 0 in pieces: docs/model_card.md. The ablations
# have one length, one start and the same crops, so that their results stand side by side.
STAGES = {
    "seg": Stage(_TASK.format("segmentation"), Plan(5000, 1.5e-3, warm_up=50, ema_decay=0.99),
                 partial(train_task_network, task="seg")),
    "det": Stage(_TASK.format("detection"), Plan(5000, 1.5e-3, warm_up=50, ema_decay=0.99),
                 partial(train_task_network, task="det")),
    "cls": Stage(_TASK.format("classification"), Plan(2000, 1e-3, warm_up=50, ema_decay=0.99),
                 partial(train_task_network, task="cls")),
    "stage0": Stage(_first_line(losses.stage0), Plan(12900, 1e-3), train_stage0, (*CROPS, "start")),
    "stage1": Stage(_first_line(losses.stage1), Plan(200, 5e-4, warm_up=50, ema_decay=0.99),
                    train_stage1, (*CROPS, "sd_turbo", "null_embedding")),
    "stage2": Stage(_first_line(train_stage2), Plan(3200, 1e-3, warm_up=50, ema_decay=0.995),
                    train_stage2, CROPS),
    "stage3": Stage(_first_line(losses.stage3), Plan(300, 1e-4, warm_up=20, ema_decay=0.99),
                    train_stage3, CROPS),
    "single-prompt": Stage("stage 2 with one prompt for every task",
                           Plan(3200, 1e-3, warm_up=50, ema_decay=0.995),
                           train_single_prompt, CROPS),
    "refine": Stage("everything, detail gain and phases too, from finished weights",
                    Plan(6000, 4e-4, warm_up=100, save_every=100),
                    refine, (*CROPS, "workers", "start", "downstream")),
    "prompts": Stage(_first_line(train_prompts), Plan(1600, 1e-4, warm_up=40, ema_decay=0.995),
                     train_prompts, (*CROPS, "downstream", "start")),
    "gain": Stage("the detail gain alone, for finished weights", Plan(3000, 3e-3, warm_up=30),
                  train_gain, ("batch", "kept", "start")),
    "head-seg": Stage("the feature head of segmentation, on frozen weights", _HEAD,
                      partial(train_head, task="seg"), ("weights",)),
    "head-det": Stage("the feature head of detection, on frozen weights", _HEAD,
                      partial(train_head, task="det"), ("weights",)),
    "nafnet": Stage("NAFNet of equal compute, at the best of some learning rates",
                    Plan(13100, 1e-3, warm_up=50, ema_decay=0.995),
                    partial(train_best_rate, name="nafnet"),
                    (*CROPS, "workers", "trial", "start"), RATES),
    "retrained-seg": Stage(_RETRAINED.format("segmentation"),
                           Plan(300, 7e-4, warm_up=20, ema_decay=0.98),
                           partial(train_task_network, task="seg", retrained=True)),
    "retrained-det": Stage(_RETRAINED.format("detection"),
                           Plan(300, 7e-4, warm_up=20, ema_decay=0.98),
                           partial(train_task_network, task="det", retrained=True)),
    "retrained-cls": Stage(_RETRAINED.format("classification"),
                           Plan(200, 5e-4, warm_up=20, ema_decay=0.98),
                           partial(train_task_network, task="cls", retrained=True)),
    "control": Stage("stage 1's network, trained on as long as the ablations", _ABLATION,
                     partial(train_ablation, name="control")),
    "without-cfrm": Stage("the same without CFRM", _ABLATION,
                          partial(train_ablation, name="without-cfrm")),
}  # fmt: skip
