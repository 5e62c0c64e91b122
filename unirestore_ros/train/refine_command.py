"""Subcommand of `train`: the whole network trained on from finished weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from unirestore_ros.model import UniRestore
from unirestore_ros.model.weights import SHIPPED_WEIGHTS, load_weights, placed, save_weights
from unirestore_ros.train.downstream import NEEDS_BOXES, Downstream, load_downstream
from unirestore_ros.train.judges import averaged
from unirestore_ros.train.labelled import LabelledSampler
from unirestore_ros.train.loop import Losses, Plan, training_device
from unirestore_ros.train.pairs import PairSampler
from unirestore_ros.train.plan_options import add_plan, chosen
from unirestore_ros.train.prepare import DRIVING, frames_in
from unirestore_ros.train.refine import (
    detail_losses,
    end_of,
    machine_losses,
    perception_losses,
    with_detail_gain,
    without_notch,
)
from unirestore_ros.train.stage_commands import PROMPT_RATE, Rates, add_crops, finish, run_of

NAME = "refine"
PLAN = Plan(6000, 4e-4, warm_up=100, save_every=100)
_ROUND = ("pairs", "detail2", "pairs", "seg", "pairs", "detail3", "pairs", "{}", "pairs", "seg")
TURNS = tuple(turn.format(task) for task in ("cls", "det") for turn in _ROUND)
"""What the iterations train on, one after the other."""
DETAIL_BATCHES = {2: (4, 352), 3: (6, 336)}
"""Crops in a batch and their side in pixels, by how many times the working size they have."""
DETAIL_PROMPTS = ("ir", "ir", "seg", "ir", "cls", "ir", "det")
CLEAN_SHARES = {"seg": 0.2}
"""Of the crops of a machine task: segmentation's prompt must leave clean images alone."""
SLOWER_PROMPTS = PROMPT_RATE / 4


def add_refine(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "everything, the detail gain and the phases of pixels too, from finished weights"
    sub = commands.add_parser(NAME, help=about)
    add_plan(sub, PLAN)
    add_crops(sub)
    weights = SHIPPED_WEIGHTS / "tiny.safetensors"
    sub.add_argument("--start", type=Path, default=weights, help="weights to go on from")
    judges = SHIPPED_WEIGHTS / "downstream.safetensors"
    sub.add_argument("--downstream", type=Path, default=judges, help="the frozen task networks")
    _add_end(sub)
    sub.set_defaults(act=_refine)
    export = commands.add_parser("export-refined", help="its weights, as fp16 safetensors")
    export.add_argument("file", type=Path)
    export.add_argument("--start", type=Path, default=weights, help="weights that it began with")
    _add_end(export)
    export.set_defaults(act=_export)


def _add_end(parser: argparse.ArgumentParser) -> None:
    about = "the decoder's end and the detail gain alone: the features stay as they are"
    parser.add_argument("--end", action="store_true", help=about)


def _refine(arguments: argparse.Namespace) -> None:
    device = training_device()
    network = placed(without_notch(with_detail_gain(load_weights(arguments.start))), device)
    name = _name(arguments)
    run = run_of(arguments, name, network, chosen(arguments, PLAN), _rates(arguments, network))
    step = _Steps(arguments, network, run.iteration)
    run.train(step)
    finish(run)


def _name(arguments: argparse.Namespace) -> str:
    return f"{NAME}-end" if arguments.end else NAME


def _rates(arguments: argparse.Namespace, network: UniRestore) -> Rates:
    if arguments.end:
        return {1.0: [p for module in end_of(network) for p in module.parameters()]}
    prompts = list(network.prompts.parameters())
    others = [p for name, p in network.named_parameters() if not name.startswith("prompts.")]
    return {1.0: others, SLOWER_PROMPTS: prompts}


class _Steps:
    """One iteration after the other, by ``TURNS``."""

    def __init__(self, arguments: argparse.Namespace, network: UniRestore, done: int) -> None:
        frames, seed = frames_in(arguments.work), arguments.seed + 5 + done
        device = training_device()
        self.batch, self.crop = arguments.batch, arguments.crop
        self.network = network
        self.pairs = PairSampler(frames, seed, device, fresh=DRIVING)
        networks = load_downstream(arguments.downstream)
        self.judges: dict[str, Downstream] = {
            "seg": placed(networks.segmenter, device),
            "det": placed(networks.detector, device),
            "cls": placed(networks.classifier, device),
        }
        shares = {CLEAN_SHARES.get(task, 0.06) for task in self.judges}
        self.labelled = {share: LabelledSampler(frames, seed, device, share) for share in shares}

    def __call__(self, iteration: int) -> Losses:
        turn = TURNS[iteration % len(TURNS)]
        if turn == "pairs":
            return perception_losses(self.network, *self.pairs(self.batch, self.crop))
        if turn.startswith("detail"):
            factor = int(turn[-1])
            task = DETAIL_PROMPTS[iteration // 5 % len(DETAIL_PROMPTS)]
            pairs = self.pairs(*DETAIL_BATCHES[factor])
            return detail_losses(self.network, *pairs, factor, task)
        sampler = self.labelled[CLEAN_SHARES.get(turn, 0.06)]
        batch = sampler(self.batch, self.crop, turn in NEEDS_BOXES)
        return machine_losses(self.network, turn, batch, self.judges[turn])


def _export(arguments: argparse.Namespace) -> None:
    network = with_detail_gain(load_weights(arguments.start))
    network.load_state_dict(averaged(arguments.work, _name(arguments)))
    save_weights(network, arguments.file)
