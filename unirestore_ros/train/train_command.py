"""`train`: prepare frames, run a stage, export its weights. Every run resumes where it stopped."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from pathlib import Path
from typing import Any, TypeAlias

import torch

from unirestore_ros.model.baselines import BASELINES, BASELINES_FOLDER
from unirestore_ros.model.weights import SHIPPED_WEIGHTS
from unirestore_ros.train.baselines import TRIAL, export_baseline
from unirestore_ros.train.data import BATCH, CROP
from unirestore_ros.train.dataset import read_labelled
from unirestore_ros.train.gain import KEPT, export_gain
from unirestore_ros.train.head_compare import Comparison, compare_heads
from unirestore_ros.train.heads import TASKS, export_head, score_heads
from unirestore_ros.train.loop import Setting, process_index, training_device
from unirestore_ros.train.prepare import (
    LeftOut,
    drive_tasks,
    photograph_tasks,
    photographs,
    prepare,
)
from unirestore_ros.train.refine import export_refined
from unirestore_ros.train.stages import STAGES, Stage, export
from unirestore_ros.train.task_networks import read_task_networks, save_task_networks

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
# Options that stages take by name.
OPTIONS: dict[str, dict[str, Any]] = {
    "batch": {"type": int, "default": BATCH, "help": "crops in a batch"},
    "crop": {"type": int, "default": CROP, "help": "side of a crop, pixels"},
    "workers": {"type": int, "default": 0, "help": "processes that draw crops (default: none)"},
    "start": {
        "type": Path,
        "help": "weights to start from, .safetensors (default: the shipped ones for"
        " refine, prompts and gain; none for stage0 and nafnet)",
    },
    "sd_turbo": {
        "type": Path,
        "help": "SD-Turbo's folder: train the published size, which has no stage 0",
    },
    "null_embedding": {
        "type": Path,
        "help": "the empty prompt's embedding, which --sd-turbo needs",
    },
    "downstream": {
        "type": Path,
        "default": SHIPPED_WEIGHTS / "downstream.safetensors",
        "help": "the frozen task networks",
    },
    "kept": {"type": int, "default": KEPT, "help": "batches of crops that are run once and kept"},
    "trial": {"type": int, "default": TRIAL, "help": "iterations to try each learning rate for"},
    "weights": {
        "type": Path,
        "default": SHIPPED_WEIGHTS / "tiny.safetensors",
        "help": "the frozen restorer's weights",
    },
    "data": {"type": Path, "required": True, "help": "a folder of images/ labels/ boxes.json"},
    "limit": {"type": int, "help": "score at most so many images, evenly spread"},
}
# Between the seeds of processes, so that each draws batches of its own.
SEEDS_APART = 1_000
# CamVid's dusk drive, dark and noisy, is no clean target. Its val is 0016E5 from 7959 on.
LEFT_OUT = ("0001TP", "0016E5:7500")


def main(argv: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = _parser().parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    seed = arguments.seed + SEEDS_APART * process_index()
    try:
        arguments.act(Setting(arguments.work, seed, training_device(), arguments.bf16), arguments)
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
    _add_prepare(commands)
    for name, stage in STAGES.items():
        _add_stage(commands, name, stage)
    _add_exports(commands)
    _add_head_scores(commands)
    return parser


def _add_prepare(commands: Subparsers) -> None:
    sub = commands.add_parser("prepare", help="degrade frames once, onto the disk")
    sub.add_argument(
        "--labelled", "--camvid", type=Path, nargs="*", default=[],
        help="folders of labelled images: images/ labels/ boxes.json (docs/howto/my_own_data.md)",
    )  # fmt: skip
    sub.add_argument(
        "--photos", type=Path, nargs="*", default=[], help="folders of clean photographs"
    )
    sub.add_argument("--drive", type=int, default=88, help="frames of the synthetic drive")
    sub.add_argument("--draws", type=int, default=1, help="times to degrade each frame anew")
    sub.add_argument("--jobs", type=int, default=1, help="processes that degrade frames")
    sub.add_argument(
        "--leave-out", nargs="*", default=LEFT_OUT, metavar="SEQUENCE[:NUMBER]",
        help=f"photographs so named, from that number on (default: {' '.join(LEFT_OUT)})",
    )  # fmt: skip
    sub.set_defaults(act=_prepare)


def _prepare(setting: Setting, arguments: argparse.Namespace) -> None:
    annotations = {}
    folders = list(arguments.photos)
    for folder in arguments.labelled:
        annotations.update(read_labelled(folder))
        folders.append(folder / "images")
    photos = photographs(folders, [LeftOut.parse(text) for text in arguments.leave_out])
    tasks = [*photograph_tasks(photos, annotations), *drive_tasks(arguments.drive)]
    prepare(setting.frames, tasks, arguments.draws, arguments.jobs)


# --- stages


def _add_stage(commands: Subparsers, name: str, stage: Stage) -> None:
    sub = commands.add_parser(name, help=stage.about)
    plan = stage.plan
    sub.add_argument("--iterations", type=int, default=plan.iterations, help="%(default)s")
    rates: dict[str, Any] = {"default": plan.learning_rate, "help": "%(default)s"}
    if stage.rates:
        rates = {"nargs": "+", "default": stage.rates, "help": "learning rates to try"}
    sub.add_argument("--learning-rate", "--rate", type=float, **rates)
    _add_options(sub, stage.options)
    sub.set_defaults(act=_train, stage=stage)


def _add_options(parser: argparse.ArgumentParser, names: tuple[str, ...]) -> None:
    for name in names:
        parser.add_argument(f"--{name.replace('_', '-')}", **OPTIONS[name])


def _train(setting: Setting, arguments: argparse.Namespace) -> None:
    stage: Stage = arguments.stage
    plan = dataclasses.replace(stage.plan, iterations=arguments.iterations)
    options = {name: getattr(arguments, name) for name in stage.options}
    if stage.rates:
        options["rates"] = arguments.learning_rate
    else:
        plan = dataclasses.replace(plan, learning_rate=arguments.learning_rate)
    stage.train(setting, plan, **options)


# --- exports


def _add_exports(commands: Subparsers) -> None:
    sub = commands.add_parser("export", help="the weights of stage 3, as fp16 safetensors")
    sub.add_argument("file", type=Path)
    sub.set_defaults(act=lambda setting, arguments: export(setting, arguments.file))

    for name, run in (("export-refined", "refine"), ("export-prompts", "prompts")):
        sub = commands.add_parser(name, help=f"the weights of {run}, as fp16 safetensors")
        sub.add_argument("file", type=Path)
        _add_options(sub, ("start",))
        sub.set_defaults(run=run)
        sub.set_defaults(act=lambda setting, a: export_refined(setting, a.file, a.start, a.run))

    about = "the weights that gain began with, with that gain, as fp16 safetensors"
    sub = commands.add_parser("export-gain", help=about)
    sub.add_argument("file", type=Path)
    _add_options(sub, ("start",))
    sub.set_defaults(act=lambda setting, a: export_gain(setting, a.file, a.start))

    about = "the task networks, as one fp16 safetensors, for `evaluate`"
    sub = commands.add_parser("export-downstream", help=about)
    sub.add_argument("file", type=Path)
    sub.set_defaults(act=_export_task_networks)

    names = (*BASELINES, "retrained")
    about = "baselines and ablations, as fp16 safetensors, for `evaluate`"
    sub = commands.add_parser("export-baselines", help=about)
    sub.add_argument("names", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    sub.add_argument("--to", type=Path, default=BASELINES_FOLDER, help="folder (%(default)s)")
    sub.set_defaults(act=_export_baselines)

    about = "the feature heads, as fp16 safetensors beside the weights"
    sub = commands.add_parser("head-export", help=about)
    _add_options(sub, ("weights",))
    sub.set_defaults(act=_export_heads)


def _export_task_networks(setting: Setting, arguments: argparse.Namespace) -> None:
    save_task_networks(read_task_networks(setting.work), arguments.file)


def _export_baselines(setting: Setting, arguments: argparse.Namespace) -> None:
    for name in arguments.names:
        file = arguments.to / f"{name}.safetensors"
        export_baseline(setting.work, name, file)
        logging.info("%s", file)


def _export_heads(setting: Setting, arguments: argparse.Namespace) -> None:
    for task in TASKS:
        logging.info("%s", export_head(setting.work, task, arguments.weights))


# --- scores of heads


def _add_head_scores(commands: Subparsers) -> None:
    about = "mIoU and mAP50 of the exported heads, on clean and on degraded images"
    sub = commands.add_parser("head-score", help=about)
    _add_options(sub, ("weights", "data", "limit"))
    sub.set_defaults(act=_score_heads)

    about = "heads of one size on adapter features, restored image and degraded pixels"
    sub = commands.add_parser("head-compare", help=about)
    _add_options(sub, ("weights", "data", "limit"))
    sub.add_argument("--frames", type=int, default=112, help="prepared frames to train on")
    sub.add_argument("--iterations", type=int, default=400, help="of each of nine runs")
    sub.add_argument("--out", type=Path, required=True, help="the JSON; curves beside it")
    sub.set_defaults(act=_compare_heads)


def _score_heads(_: Setting, arguments: argparse.Namespace) -> None:
    for line in score_heads(arguments.weights, arguments.data, arguments.limit):
        logging.info("%s", line)


def _compare_heads(setting: Setting, arguments: argparse.Namespace) -> None:
    names = [field.name for field in dataclasses.fields(Comparison)]
    comparison = Comparison(**{name: getattr(arguments, name) for name in names})
    compare_heads(setting, comparison, arguments.out)
