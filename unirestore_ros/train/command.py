"""`train`: prepare frames, then stage 0 to 3 and the downstream networks, each resumable."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import torch

from unirestore_ros.train.dataset import read_labelled
from unirestore_ros.train.downstream import NETWORKS, save_downstream
from unirestore_ros.train.head_commands import add_heads
from unirestore_ros.train.judges import read_downstreams, train_judge
from unirestore_ros.train.loop import Plan, process_index, training_device
from unirestore_ros.train.plan_options import add_plan, chosen
from unirestore_ros.train.prepare import LeftOut, frames_in, photographs, prepare
from unirestore_ros.train.refine_command import add_refine
from unirestore_ros.train.rival_commands import add_baselines
from unirestore_ros.train.stage_commands import add_stages

PLANS = {
    "seg": Plan(5000, 1.5e-3, warm_up=50, average=0.99),
    "det": Plan(5000, 1.5e-3, warm_up=50, average=0.99),
    "cls": Plan(2000, 1e-3, warm_up=50, average=0.99),
}
"""What the shipped weights took: docs/model_card.md."""
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
        add_plan(network, PLANS[name])
        network.set_defaults(act=_downstream, task=name)
    add_stages(commands)
    add_refine(commands)
    add_heads(commands)
    add_baselines(commands)
    about = "the downstream networks, as one fp16 safetensors, for `evaluate`"
    judges = commands.add_parser("export-downstream", help=about)
    judges.add_argument("file", type=Path)
    judges.set_defaults(act=_export_downstream)
    return parser


def _prepare(arguments: argparse.Namespace) -> None:
    annotations = {}
    folders = list(arguments.photos)
    for folder in arguments.labelled:
        annotations.update(read_labelled(folder))
        folders.append(folder / "images")
    photos = photographs(folders, [LeftOut.parse(text) for text in arguments.leave_out])
    prepare(frames_in(arguments.work), photos, arguments.drive, annotations)


def _downstream(arguments: argparse.Namespace) -> None:
    task, seed = arguments.task, arguments.seed + 1
    plan = chosen(arguments, PLANS[task])
    train_judge(arguments.work, task, plan, seed, training_device(), arguments.bf16)


def _export_downstream(arguments: argparse.Namespace) -> None:
    save_downstream(read_downstreams(arguments.work), arguments.file)
