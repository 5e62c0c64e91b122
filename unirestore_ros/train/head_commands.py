"""Subcommands of `train` for the feature heads, on frozen weights."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from unirestore_ros.model.weights import SHIPPED_WEIGHTS
from unirestore_ros.tasks import long_name
from unirestore_ros.train.head_compare import Settings, compare_heads
from unirestore_ros.train.head_scores import score_heads
from unirestore_ros.train.heads import PLANS, export_head, train_head
from unirestore_ros.train.loop import training_device
from unirestore_ros.train.plan_options import add_plan, chosen


def add_heads(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    shared = argparse.ArgumentParser(add_help=False)
    weights = SHIPPED_WEIGHTS / "tiny.safetensors"
    shared.add_argument("--weights", type=Path, default=weights, help="the frozen restorer's")
    for task, plan in PLANS.items():
        about = f"the feature head of {long_name(task)}, on frozen weights"
        head = commands.add_parser(f"head-{task}", parents=[shared], help=about)
        add_plan(head, plan)
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


def _head(arguments: argparse.Namespace) -> None:
    plan = chosen(arguments, PLANS[arguments.task])
    work, task, weights = arguments.work, arguments.task, arguments.weights
    train_head(work, task, weights, plan, arguments.seed, training_device(), arguments.bf16)


def _export_heads(arguments: argparse.Namespace) -> None:
    for task in PLANS:
        file = export_head(arguments.work, task, arguments.weights)
        logging.info("%s", file)


def _score_heads(arguments: argparse.Namespace) -> None:
    for line in score_heads(arguments.weights, arguments.data, arguments.limit):
        logging.info("%s", line)


def _compare_heads(arguments: argparse.Namespace) -> None:
    names = ("work", "weights", "data", "limit", "frames", "iterations", "seed")
    settings = Settings(**{name: getattr(arguments, name) for name in names})
    compare_heads(settings, arguments.out, training_device())
