"""`train`: prepare frames, then stage 0 to 3 and the downstream networks, each resumable."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from unirestore_ros.files import written_beside
from unirestore_ros.model import TINY, Config, UniRestore
from unirestore_ros.model.published import from_sd_turbo
from unirestore_ros.model.rivals.ablations import SinglePrompt
from unirestore_ros.model.weights import SHIPPED_WEIGHTS, load_weights, save_weights
from unirestore_ros.tasks import long_name
from unirestore_ros.train import stages
from unirestore_ros.train.dataset import read_labelled
from unirestore_ros.train.downstream import (
    NEEDS_BOXES,
    NETWORKS,
    Downstream,
    save_downstream,
)
from unirestore_ros.train.head_compare import Settings, compare_heads
from unirestore_ros.train.head_scores import score_heads
from unirestore_ros.train.heads import PLANS as HEAD_PLANS
from unirestore_ros.train.heads import export_head, train_head
from unirestore_ros.train.judges import averaged, read_downstreams, train_judge
from unirestore_ros.train.labelled import LabelledSampler
from unirestore_ros.train.loop import Losses, Plan, Run, process_index, training_device
from unirestore_ros.train.pairs import PairSampler
from unirestore_ros.train.plot import plot_losses
from unirestore_ros.train.prepare import LeftOut, photographs, prepare
from unirestore_ros.train.rival_commands import add_rivals

PROMPT_RATE = 100.0
"""A gate's softmax divides a prompt by its width: it needs a learning rate of its own."""
Rates = dict[float, list[nn.Parameter]]
"""Parameters by the factor of their learning rate."""
Network = TypeVar("Network", bound=nn.Module)
STAGE2_TASKS = ("ir", "cls", "seg")
ADDED_TASK = "det"

PLANS = {
    "0": Plan(7000, 1e-3),
    "1": Plan(200, 5e-4, warm_up=50, average=0.99),
    "2": Plan(1000, 5e-4, warm_up=50, average=0.995),
    "3": Plan(200, 5e-4, warm_up=20, average=0.99),
    "seg": Plan(5000, 1.5e-3, warm_up=50, average=0.99),
    "det": Plan(5000, 1.5e-3, warm_up=50, average=0.99),
    "cls": Plan(2000, 1e-3, warm_up=50, average=0.99),
}
"""What the shipped weights took: docs/model_card.md."""
BATCH, CROP = 4, 192
"""The work of nine crops of 128, which hold too little of a scene to tell how thick a fog is."""
SEEDS_APART = 1_000
"""Between processes, each of which draws batches of its own."""
LEFT_OUT = ("0001TP", "0016E5:7500")
"""CamVid's dusk drive, dark and noisy, is no clean target; its val is 0016E5 from 7959 on."""


def main(argv: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = _parser().parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    arguments.seed += SEEDS_APART * process_index()
    try:
        arguments.act(arguments)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"train: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("train", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("out/train"), help="folder of all state")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: torch's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--bf16", action="store_true", help="bfloat16 where it is safe: twice as fast on AVX-512"
    )
    commands = parser.add_subparsers(required=True)

    first = commands.add_parser("prepare", help="degrade frames once, onto the disk")
    about = "folders of labelled images: images/ labels/ boxes.json (docs/howto/my_own_data.md)"
    first.add_argument("--labelled", "--camvid", type=Path, nargs="*", default=[], help=about)
    first.add_argument(
        "--photos", type=Path, nargs="*", default=[], help="folders of clean photographs"
    )
    first.add_argument("--drive", type=int, default=88, help="frames of the synthetic drive")
    first.add_argument(
        "--leave-out",
        nargs="*",
        default=LEFT_OUT,
        metavar="SEQUENCE[:NUMBER]",
        help=f"photographs so named, from that number on (default: {' '.join(LEFT_OUT)})",
    )
    first.set_defaults(act=_prepare)

    for name in NETWORKS:
        network = commands.add_parser(
            name, help=f"the downstream network of {name}, on clean images"
        )
        _add_length(network)
        network.set_defaults(act=_downstream, task=name)
    for stage, act in (("0", _stage0), ("1", _stage1), ("2", _stage2), ("3", _stage3)):
        sub = commands.add_parser(
            f"stage{stage}", help=(getattr(stages, f"stage{stage}").__doc__ or "").split("\n")[0]
        )
        _add_length(sub)
        sub.set_defaults(act=act)
        sub.add_argument("--batch", type=int, default=BATCH, help="crops in a batch")
        sub.add_argument("--crop", type=int, default=CROP, help="side of a crop, pixels")
        if stage == "0":
            sub.add_argument("--start", type=Path, help="weights to go on from, .safetensors")
        if stage == "1":
            about = "SD-Turbo's folder: train the published size, which has no stage 0"
            sub.add_argument("--sd-turbo", type=Path, help=about)
            about = "the empty prompt's embedding, which --sd-turbo needs"
            sub.add_argument("--null-embedding", type=Path, help=about)

    single = commands.add_parser("single-prompt", help="stage 2 with one prompt for every task")
    _add_length(single)
    single.add_argument("--batch", type=int, default=BATCH, help="crops in a batch")
    single.add_argument("--crop", type=int, default=CROP, help="side of a crop, pixels")
    single.set_defaults(act=_single_prompt)
    _add_heads(commands)
    add_rivals(commands)
    last = commands.add_parser("export", help="the weights of the last stage, as fp16 safetensors")
    last.add_argument("file", type=Path)
    last.set_defaults(act=_export)
    about = "the downstream networks, as one fp16 safetensors, for `evaluate`"
    judges = commands.add_parser("export-downstream", help=about)
    judges.add_argument("file", type=Path)
    judges.set_defaults(act=_export_downstream)
    return parser


def _add_heads(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    shared = argparse.ArgumentParser(add_help=False)
    weights = SHIPPED_WEIGHTS / "tiny.safetensors"
    shared.add_argument("--weights", type=Path, default=weights, help="the frozen restorer's")
    for task, plan in HEAD_PLANS.items():
        about = f"the feature head of {long_name(task)}, on frozen weights"
        head = commands.add_parser(f"head-{task}", parents=[shared], help=about)
        head.add_argument("--iterations", type=int, default=plan.iterations)
        head.set_defaults(act=_head, task=task)
    about = "the feature heads, as fp16 safetensors beside the weights"
    export = commands.add_parser("head-export", parents=[shared], help=about)
    export.set_defaults(act=_export_heads)
    about = "mIoU and mAP50 of the exported heads, on clean and on degraded images"
    score = commands.add_parser("head-score", parents=[shared], help=about)
    score.add_argument("--data", type=Path, required=True, help="images/ labels/ boxes.json")
    score.add_argument("--limit", type=int, help="at most so many images, evenly spread")
    score.set_defaults(act=_score_heads)
    about = "heads of one size on adapter features, restored image and degraded pixels"
    compare = commands.add_parser("head-compare", parents=[shared], help=about)
    compare.add_argument("--data", type=Path, required=True, help="images/ labels/ boxes.json")
    compare.add_argument("--limit", type=int, help="score at most so many images, evenly spread")
    compare.add_argument("--frames", type=int, default=112, help="prepared frames to train on")
    compare.add_argument("--iterations", type=int, default=400, help="of each of nine runs")
    compare.add_argument("--out", type=Path, required=True, help="the JSON; curves beside it")
    compare.set_defaults(act=_compare_heads)


def _add_length(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--iterations", type=int, help="instead of the shipped plan's")


def _prepare(arguments: argparse.Namespace) -> None:
    annotations = {}
    folders = list(arguments.photos)
    for folder in arguments.labelled:
        annotations.update(read_labelled(folder))
        folders.append(folder / "images")
    photos = photographs(folders, [LeftOut.parse(text) for text in arguments.leave_out])
    prepare(_cache(arguments), photos, arguments.drive, annotations)


def _cache(arguments: argparse.Namespace) -> Path:
    folder: Path = arguments.work / "frames"
    return folder


def _plan(arguments: argparse.Namespace, name: str) -> Plan:
    plan = PLANS[name]
    if arguments.iterations is None:
        return plan
    return Plan(arguments.iterations, plan.learning_rate, plan.warm_up, plan.average)


def _run(
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


def _finish(run: Run) -> None:
    run.save()
    plot_losses(run.folder)


def _stage0(arguments: argparse.Namespace) -> None:
    start = arguments.start
    network = _placed(load_weights(start) if start else UniRestore(TINY))
    plan = _plan(arguments, "0")
    run = _run(arguments, "stage0", network, plan, {1.0: list(network.parameters())})
    pairs = PairSampler(_cache(arguments), arguments.seed + run.iteration, training_device())
    run.train(lambda _: stages.stage0(network, *pairs(arguments.batch, arguments.crop)))
    _finish(run)


def _stage1(arguments: argparse.Namespace) -> None:
    network = _before_stage1(arguments)
    parts = (network.cfrm, network.controller, network.denoiser.csc_editors)
    plan = _plan(arguments, "1")
    run = _run(arguments, "stage1", network, plan, {1.0: _parameters(parts)})
    pairs = PairSampler(_cache(arguments), arguments.seed + 1 + run.iteration, training_device())
    run.train(lambda _: stages.stage1(network, *pairs(arguments.batch, arguments.crop)))
    _finish(run)


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
    run = _run(arguments, name, network, _plan(arguments, "2"), rates)
    judges = {task: _judge(arguments, task) for task in STAGE2_TASKS if task != "ir"}
    batches = LabelledSampler(
        _cache(arguments), arguments.seed + 2 + run.iteration, training_device()
    )

    def step(iteration: int) -> Losses:
        task = STAGE2_TASKS[iteration % len(STAGE2_TASKS)]
        batch = batches(arguments.batch, arguments.crop, task in NEEDS_BOXES)
        return stages.stage2(network, task, batch, judges.get(task))

    run.train(step)
    _finish(run)


def _stage3(arguments: argparse.Namespace) -> None:
    network = _network_after(arguments, "stage2")
    prompt = network.prompts[ADDED_TASK]
    run = _run(arguments, "stage3", network, _plan(arguments, "3"), {PROMPT_RATE: [prompt]})
    judge = _judge(arguments, ADDED_TASK)
    batches = LabelledSampler(
        _cache(arguments), arguments.seed + 3 + run.iteration, training_device()
    )

    def step(_: int) -> Losses:
        batch = batches(arguments.batch, arguments.crop, True)
        return stages.stage3(network, ADDED_TASK, batch, judge)

    run.train(step)
    _finish(run)


def _downstream(arguments: argparse.Namespace) -> None:
    task, seed = arguments.task, arguments.seed + 1
    train_judge(
        arguments.work, task, _plan(arguments, task), seed, training_device(), arguments.bf16
    )


def _head(arguments: argparse.Namespace) -> None:
    plan = dataclasses.replace(HEAD_PLANS[arguments.task], iterations=arguments.iterations)
    work, task, weights = arguments.work, arguments.task, arguments.weights
    train_head(work, task, weights, plan, arguments.seed, training_device(), arguments.bf16)


def _export_heads(arguments: argparse.Namespace) -> None:
    for task in HEAD_PLANS:
        file = export_head(arguments.work, task, arguments.weights)
        logging.info("%s", file)


def _score_heads(arguments: argparse.Namespace) -> None:
    for line in score_heads(arguments.weights, arguments.data, arguments.limit):
        logging.info("%s", line)


def _compare_heads(arguments: argparse.Namespace) -> None:
    names = ("work", "weights", "data", "limit", "frames", "iterations", "seed")
    settings = Settings(**{name: getattr(arguments, name) for name in names})
    compare_heads(settings, arguments.out, training_device())


def _export(arguments: argparse.Namespace) -> None:
    save_weights(_network_after(arguments, "stage3"), arguments.file)


def _export_downstream(arguments: argparse.Namespace) -> None:
    save_downstream(read_downstreams(arguments.work), arguments.file)


def _placed(network: Network) -> Network:
    """On the GPU where there is one, in the layout that convolutions are fastest in."""
    placed: Network = network.to(training_device(), memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


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


def _judge(arguments: argparse.Namespace, task: str) -> Downstream:
    return _trained(arguments, task, NETWORKS[task]())


def _trained(arguments: argparse.Namespace, task: str, network: Network) -> Network:
    network.load_state_dict(averaged(arguments.work, task))
    return _placed(network.eval().requires_grad_(False))
