"""Subcommands of `train` for what UniRestore is compared with."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path

from unirestore_ros.model.baselines import BASELINES, BASELINES_FOLDER
from unirestore_ros.train.downstream import NETWORKS, Segmenter, save_downstream
from unirestore_ros.train.judges import RETRAINED, frozen_judge, read_downstreams, train_judge
from unirestore_ros.train.loop import training_device
from unirestore_ros.train.plan_options import add_plan, chosen
from unirestore_ros.train.rivals import (
    ABLATIONS,
    PLANS,
    RATES,
    TRIAL,
    Setting,
    export_baseline,
    train_ablation,
    train_best_rate,
    train_restorer,
    train_urie,
)


def add_baselines(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    nafnet = commands.add_parser("nafnet", help="NAFNet of equal compute, its best of some rates")
    nafnet.add_argument("--iterations", type=int, default=PLANS["nafnet"].iterations)
    nafnet.add_argument(
        "--rate", type=float, nargs="+", default=RATES, help="learning rates to try"
    )
    nafnet.add_argument("--trial", type=int, default=TRIAL, help="iterations to try each for")
    nafnet.set_defaults(act=_nafnet)
    promptir = commands.add_parser("promptir", help="a PromptIR-like network of equal compute")
    add_plan(promptir, PLANS["promptir"])
    promptir.set_defaults(
        act=lambda a: train_restorer(_setting(a), "promptir", chosen(a, PLANS["promptir"]))
    )
    urie = commands.add_parser("urie", help="a URIE-like enhancer, by the segmenter's loss")
    add_plan(urie, PLANS["urie"])
    urie.set_defaults(act=_urie)
    for task in NETWORKS:
        about = f"the downstream network of {task}, trained on with degraded crops"
        retrained = commands.add_parser(f"{RETRAINED}{task}", help=about)
        add_plan(retrained, PLANS[f"{RETRAINED}{task}"])
        retrained.set_defaults(act=_retrained, task=task)
    for name in ABLATIONS:
        about = "stage 1's network trained on by stage 0's losses, as long as its ablations"
        if name != "control":
            about = f"the same {name.replace('-', ' ')}"
        ablation = commands.add_parser(name, help=about)
        add_plan(ablation, PLANS[name])
        ablation.set_defaults(act=_ablation, name=name)
    about = "baselines and ablations, as fp16 safetensors, for `evaluate`"
    export = commands.add_parser("export-baselines", help=about)
    export.add_argument("names", nargs="+", choices=(*BASELINES, "retrained"), metavar="NAME",
                        help=", ".join((*BASELINES, "retrained")))  # fmt: skip
    export.add_argument("--to", type=Path, default=BASELINES_FOLDER, help="folder")
    export.set_defaults(act=_export)


def _setting(arguments: argparse.Namespace) -> Setting:
    return Setting(arguments.work, arguments.seed, training_device(), arguments.bf16)


def _nafnet(arguments: argparse.Namespace) -> None:
    plan = dataclasses.replace(PLANS["nafnet"], iterations=arguments.iterations)
    train_best_rate(_setting(arguments), "nafnet", plan, arguments.rate, arguments.trial)


def _urie(arguments: argparse.Namespace) -> None:
    setting = _setting(arguments)
    judge = frozen_judge(setting.work, "seg", setting.device)
    assert isinstance(judge, Segmenter)
    train_urie(setting, judge, chosen(arguments, PLANS["urie"]))


def _retrained(arguments: argparse.Namespace) -> None:
    setting, task = _setting(arguments), arguments.task
    plan, seed = chosen(arguments, PLANS[f"{RETRAINED}{task}"]), setting.seed + 2
    train_judge(setting.work, task, plan, seed, setting.device, setting.bf16, retrained=True)


def _ablation(arguments: argparse.Namespace) -> None:
    name = arguments.name
    train_ablation(_setting(arguments), name, chosen(arguments, PLANS[name]))


def _export(arguments: argparse.Namespace) -> None:
    for name in arguments.names:
        file = arguments.to / f"{name}.safetensors"
        if name == "retrained":
            save_downstream(read_downstreams(arguments.work, RETRAINED), file)
        else:
            export_baseline(arguments.work, name, file)
        logging.info("%s", file)
