"""Subcommands of `train` for the stages of UniRestore itself."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from unirestore_ros.files import written_beside
from unirestore_ros.model import TINY, Config, UniRestore
from unirestore_ros.model.baselines import SinglePrompt
from unirestore_ros.model.published import from_sd_turbo
from unirestore_ros.model.weights import Network, load_weights, placed, save_weights
from unirestore_ros.train import stages
from unirestore_ros.train.downstream import NEEDS_BOXES
from unirestore_ros.train.judges import averaged, frozen_judge
from unirestore_ros.train.labelled import LabelledSampler
from unirestore_ros.train.loop import Losses, Plan, Run, training_device
from unirestore_ros.train.pairs import BATCH, CROP, PairSampler
from unirestore_ros.train.plan_options import add_plan, chosen
from unirestore_ros.train.plot import plot_losses
from unirestore_ros.train.prepare import frames_in

PROMPT_RATE = 100.0
"""A gate's softmax divides a prompt by its width: it needs a learning rate of its own."""
Rates = dict[float, list[nn.Parameter]]
"""Parameters by the factor of their learning rate."""
STAGE2_TASKS = ("ir", "cls", "seg")
ADDED_TASK = "det"

PLANS = {
    "0": Plan(12900, 1e-3),
    "1": Plan(200, 5e-4, warm_up=50, average=0.99),
    "2": Plan(3200, 1e-3, warm_up=50, average=0.995),
    "3": Plan(300, 1e-4, warm_up=20, average=0.99),
}
"""What the shipped weights took, stage 0 in pieces: docs/model_card.md."""


def add_stages(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for stage, act in (("0", _stage0), ("1", _stage1), ("2", _stage2), ("3", _stage3)):
        sub = commands.add_parser(
            f"stage{stage}", help=(getattr(stages, f"stage{stage}").__doc__ or "").split("\n")[0]
        )
        add_plan(sub, PLANS[stage])
        sub.set_defaults(act=act)
        add_crops(sub)
        if stage == "0":
            sub.add_argument("--start", type=Path, help="weights to go on from, .safetensors")
        if stage == "1":
            about = "SD-Turbo's folder: train the published size, which has no stage 0"
            sub.add_argument("--sd-turbo", type=Path, help=about)
            about = "the empty prompt's embedding, which --sd-turbo needs"
            sub.add_argument("--null-embedding", type=Path, help=about)

    single = commands.add_parser("single-prompt", help="stage 2 with one prompt for every task")
    add_plan(single, PLANS["2"])
    add_crops(single)
    single.set_defaults(act=_single_prompt)
    last = commands.add_parser("export", help="the weights of the last stage, as fp16 safetensors")
    last.add_argument("file", type=Path)
    last.set_defaults(act=_export)


def add_crops(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, default=BATCH, help="crops in a batch")
    parser.add_argument("--crop", type=int, default=CROP, help="side of a crop, pixels")


def run_of(
    arguments: argparse.Namespace,
    name: str,
    network: nn.Module,
    plan: Plan,
    rates: Rates,
) -> Run:
    """Only the parameters in ``rates`` learn; those with a factor of their own (prompts) have no
    weight decay."""
    network.requires_grad_(False)
    groups: list[dict[str, object]] = []
    for factor, parameters in rates.items():
        for parameter in parameters:
            parameter.requires_grad_(True)
        decay = 1e-4 if factor == 1.0 else 0.0
        groups.append({"params": parameters, "rate_factor": factor, "weight_decay": decay})
    return Run(arguments.work / name, network, groups, plan, arguments.bf16)


def finish(run: Run) -> None:
    run.save()
    plot_losses(run.folder)


def _stage0(arguments: argparse.Namespace) -> None:
    start = arguments.start
    network = _placed(load_weights(start) if start else UniRestore(TINY))
    plan = chosen(arguments, PLANS["0"])
    run = run_of(arguments, "stage0", network, plan, {1.0: list(network.parameters())})
    pairs = PairSampler(
        frames_in(arguments.work), arguments.seed + run.iteration, training_device()
    )
    run.train(lambda _: stages.stage0(network, *pairs(arguments.batch, arguments.crop)))
    finish(run)


def _stage1(arguments: argparse.Namespace) -> None:
    network = _before_stage1(arguments)
    parts = (network.cfrm, network.controller, network.denoiser.csc_editors)
    plan = chosen(arguments, PLANS["1"])
    run = run_of(arguments, "stage1", network, plan, {1.0: _parameters(parts)})
    pairs = PairSampler(
        frames_in(arguments.work), arguments.seed + 1 + run.iteration, training_device()
    )
    run.train(lambda _: stages.stage1(network, *pairs(arguments.batch, arguments.crop)))
    finish(run)


def _stage2(arguments: argparse.Namespace) -> None:
    network = _network_after(arguments, "stage1")
    _adapt(arguments, "stage2", network, [network.prompts[task] for task in STAGE2_TASKS])


def _single_prompt(arguments: argparse.Namespace) -> None:
    network, before = SinglePrompt(TINY), averaged(arguments.work, "stage1")
    network.load_state_dict(before | {f"prompts.{task}": before["prompts.ir"]
                                      for task in TINY.tasks})  # fmt: skip
    _adapt(arguments, "single-prompt", _placed(network), [network.prompts[STAGE2_TASKS[0]]])


def _adapt(
    arguments: argparse.Namespace, name: str, network: UniRestore, prompts: list[nn.Parameter]
) -> None:
    rates = {1.0: _parameters([network.tfa]), PROMPT_RATE: prompts}
    run = run_of(arguments, name, network, chosen(arguments, PLANS["2"]), rates)
    judges = {
        task: frozen_judge(arguments.work, task, training_device())
        for task in STAGE2_TASKS
        if task != "ir"
    }
    batches = LabelledSampler(
        frames_in(arguments.work), arguments.seed + 2 + run.iteration, training_device()
    )

    def step(iteration: int) -> Losses:
        task = STAGE2_TASKS[iteration % len(STAGE2_TASKS)]
        batch = batches(arguments.batch, arguments.crop, task in NEEDS_BOXES)
        return stages.stage2(network, task, batch, judges.get(task))

    run.train(step)
    finish(run)


def _stage3(arguments: argparse.Namespace) -> None:
    network = _network_after(arguments, "stage2")
    prompt = network.prompts[ADDED_TASK]
    with torch.no_grad():
        prompt.copy_(network.prompts["ir"])  # from zero it ended further off, and worse
    run = run_of(
        arguments, "stage3", network, chosen(arguments, PLANS["3"]), {PROMPT_RATE: [prompt]}
    )
    judge = frozen_judge(arguments.work, ADDED_TASK, training_device())
    batches = LabelledSampler(
        frames_in(arguments.work), arguments.seed + 3 + run.iteration, training_device()
    )

    def step(_: int) -> Losses:
        batch = batches(arguments.batch, arguments.crop, True)
        return stages.stage3(network, ADDED_TASK, batch, judge)

    run.train(step)
    finish(run)


def _export(arguments: argparse.Namespace) -> None:
    save_weights(_network_after(arguments, "stage3"), arguments.file)


def _placed(network: Network) -> Network:
    return placed(network, training_device())


def _parameters(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters()]


def _before_stage1(arguments: argparse.Namespace) -> UniRestore:
    if arguments.sd_turbo is None:
        return _network_after(arguments, "stage0")
    if arguments.null_embedding is None:
        raise ValueError("--sd-turbo needs --null-embedding FILE beside it")
    tasks = (*STAGE2_TASKS, ADDED_TASK)
    network = from_sd_turbo(arguments.sd_turbo, arguments.null_embedding, tasks)
    with written_beside(_config_file(arguments)) as beside:
        beside.write_text(json.dumps(network.config.to_dict()))
    return _placed(network)


def _config_file(arguments: argparse.Namespace) -> Path:
    """Of the network in the work folder, where it is not `tiny`."""
    file: Path = arguments.work / "config.json"
    return file


def _network_after(arguments: argparse.Namespace, stage: str) -> UniRestore:
    file = _config_file(arguments)
    config = Config.from_dict(json.loads(file.read_text())) if file.exists() else TINY
    network = UniRestore(config)
    network.load_state_dict(averaged(arguments.work, stage))
    return _placed(network)
