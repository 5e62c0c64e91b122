"""The training loop: one optimiser, a moving average, checkpoints that resume, curves.

Started by `accelerate launch` it runs on several GPUs: every process draws batches of its own and
their gradients are averaged, so that a batch is as many times as large.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from unirestore_ros.files import written_beside
from unirestore_ros.train.curves import Curves, plot_losses, rate_folder
from unirestore_ros.train.data import LabelledSampler, PairSampler
from unirestore_ros.train.losses import Losses

Groups = list[dict[str, Any]]
# Parameters by the factor of their learning rate.
Learning = dict[float, list[nn.Parameter]]
# A gate's softmax divides a prompt by its width, so that prompts need a learning rate of their own.
PROMPT_RATE = 100.0
RECORD_EVERY = 20
CHECKPOINT = "checkpoint.pt"

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    The learning rate warms up, then falls as a cosine to 1 %.
    """

    iterations: int
    learning_rate: float
    warm_up: int = 200
    ema_decay: float = 0.999  # of the moving average of the weights, which is what is kept
    clip: float = 1.0  # largest norm of the gradients
    save_every: int = 250
    falls_over: int | None = None  # iterations that the cosine takes, if not all

    def learning_rate_at(self, iteration: int) -> float:
        if iteration < self.warm_up:
            return self.learning_rate * (iteration + 1) / self.warm_up
        length = (self.falls_over or self.iterations) - self.warm_up
        done = min((iteration - self.warm_up) / max(length, 1), 1.0)
        return self.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)

    def first(self, iterations: int) -> Plan:
        """Return the plan's first iterations, at the learning rates that the whole has there."""
        few = min(iterations, self.iterations)
        return dataclasses.replace(self, iterations=few, falls_over=self.iterations)


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where and how to train: the folder of all state, the seed, the device, the precision."""

    work: Path
    seed: int
    device: torch.device
    bf16: bool = False

    @property
    def frames(self) -> Path:
        return self.work / "frames"

    def pairs(self, offset: int) -> PairSampler:
        return PairSampler(self.frames, self.seed + offset, self.device)

    def labelled(self, offset: int) -> LabelledSampler:
        return LabelledSampler(self.frames, self.seed + offset, self.device)

    def run(
        self, name: str | Path, network: nn.Module, plan: Plan, learning: Learning | None = None
    ) -> Run:
        """Begin or resume the run in the folder ``name``.

        Only the parameters in ``learning`` learn; None: all of them.
        """
        if learning is None:
            groups: Groups = [{"params": list(network.parameters())}]
            return Run(self.work / name, network, groups, plan, self.bf16)
        network.requires_grad_(False)
        groups = []
        for factor, parameters in learning.items():
            for parameter in parameters:
                parameter.requires_grad_(True)
            # Decay would pull prompts, which learn by a factor, to zero as many times as fast.
            decay = 1e-4 if factor == 1.0 else 0.0
            groups.append({"params": parameters, "rate_factor": factor, "weight_decay": decay})
        return Run(self.work / name, network, groups, plan, self.bf16)


def process_index() -> int:
    """Return which of the processes of `accelerate launch` this is; 0 without it."""
    return int(Accelerator().process_index)


def training_device() -> torch.device:
    """Return this process's GPU where there is one, else the CPU."""
    device: torch.device = Accelerator().device
    return device


class Run:
    """The training of some parameters of a network, in a folder that holds its state."""

    def __init__(
        self, folder: Path, network: nn.Module, groups: Groups, plan: Plan, bf16: bool = False
    ) -> None:
        """``groups``: AdamW's, each with a ``rate_factor`` of its learning rate where not 1."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.network, self.plan, self.bf16 = folder, network, plan, bf16
        self._accelerator = Accelerator()
        if not self._leads:
            # The same weights in every process, but noise of its own.
            torch.manual_seed(torch.initial_seed() + process_index())
        for group in groups:
            group.setdefault("rate_factor", 1.0)
        on_gpu = next(network.parameters()).is_cuda
        self.optimizer = torch.optim.AdamW(
            groups, lr=plan.learning_rate, betas=(0.9, 0.95), fused=on_gpu
        )
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.iteration = 0
        self.seconds = 0.0
        self._resume()

    @property
    def _leads(self) -> bool:
        """One process alone writes checkpoints and curves."""
        return bool(self._accelerator.is_main_process)

    @property
    def checkpoint(self) -> Path:
        return self.folder / CHECKPOINT

    @property
    def left(self) -> range:
        """The iterations that are still to be done."""
        return range(self.iteration, self.plan.iterations)

    def train(self, step: Callable[[int], Losses]) -> nn.Module:
        """Minimise the losses that ``step`` returns for each iteration, until the plan is done.

        Returns the averaged network.
        """
        trainable = [p for group in self.optimizer.param_groups for p in group["params"]]
        device = next(self.network.parameters()).device.type
        curves = Curves(self.folder) if self._leads else None
        bar = tqdm(
            total=self.plan.iterations,
            initial=self.iteration,
            desc=self.folder.name,
            disable=not self._leads,
        )
        while self.iteration < self.plan.iterations:
            started = time.monotonic()
            rate = self._set_learning_rate()
            with torch.autocast(device, torch.bfloat16, enabled=self.bf16):
                losses = step(self.iteration)
            self._learn(losses, trainable)
            self._update_average()
            self.iteration += 1
            self.seconds += time.monotonic() - started
            bar.update()
            if curves and self._is_time_to_record():
                values = {name: float(loss.detach()) for name, loss in losses.items()}
                bar.set_postfix({name: round(value, 6) for name, value in values.items()})
                curves.record(self.iteration, self.seconds, rate, values)
            if self.iteration % self.plan.save_every == 0:
                self.save()
        self.save()
        return self.average

    def finish(self) -> None:
        """Save the run, with what was changed of the average since, and draw its losses."""
        self.save()
        plot_losses(self.folder)

    def _set_learning_rate(self) -> float:
        rate = self.plan.learning_rate_at(self.iteration)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        return rate

    def _learn(self, losses: Losses, trainable: Sequence[nn.Parameter]) -> None:
        """Take one step of the optimiser; leave out a batch whose gradient is not finite."""
        self.optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        if self._accelerator.num_processes > 1:
            self._average_gradients(trainable)
        norm = nn.utils.clip_grad_norm_(trainable, self.plan.clip)
        if torch.isfinite(norm):
            self.optimizer.step()

    def _average_gradients(self, trainable: Sequence[nn.Parameter]) -> None:
        """Average the gradients over the processes.

        DistributedDataParallel does this in a network's forward, but the stages call parts of it.
        """
        gradients = [p.grad for p in trainable if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        means = self._accelerator.reduce(flat, "mean").split([g.numel() for g in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))

    @torch.no_grad()
    def _update_average(self) -> None:
        # Smaller at first, or the average would remember the untrained weights for long.
        decay = min(self.plan.ema_decay, (1 + self.iteration) / (10 + self.iteration))
        means, values = (
            list[Tensor](network.parameters()) for network in (self.average, self.network)
        )
        torch._foreach_lerp_(means, values, 1 - decay)

    def _is_time_to_record(self) -> bool:
        return self.iteration % RECORD_EVERY == 0 or self.iteration == self.plan.iterations

    def save(self) -> None:
        if not self._leads:
            return
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "iteration": self.iteration,
            "seconds": self.seconds,
        }
        with written_beside(self.checkpoint) as beside:
            torch.save(state, beside)

    def _resume(self) -> None:
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.iteration, self.seconds = state["iteration"], state["seconds"]


def read_checkpoint(folder: Path, command: str) -> dict[str, Any]:
    """Read what a run saved last; ValueError names the `train` command where it has not begun."""
    file = folder / CHECKPOINT
    if not file.exists():
        raise ValueError(f"{file} is not there: run `train {command}` first")
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def read_ema(work: Path, name: str) -> dict[str, Tensor]:
    """Read the averaged weights of the run ``name`` as they stand."""
    state: dict[str, Tensor] = read_checkpoint(work / name, name)["average"]
    return state


# --- the learning rate


def search_learning_rate(
    folder: Path, rates: Sequence[float], iterations: int, trial: Callable[[float, Path], float]
) -> tuple[float, dict[str, float]]:
    """Try each learning rate; return the one of least loss, and the losses by rate.

    ``trial`` trains for ``iterations`` in the folder that it is given and returns a loss on crops
    that it was not trained on. The losses are kept, so that a search that was cut off goes on; the
    result is written to ``rates.json`` in ``folder``.
    """
    losses: dict[float, float] = {}
    for rate in rates:
        file = rate_folder(folder, rate) / "trial.json"
        kept = json.loads(file.read_text()) if file.exists() else {}
        if kept.get("iterations") != iterations:
            loss = float(np.nan_to_num(trial(rate, file.parent), nan=np.inf))
            kept = {"iterations": iterations, "loss": loss}
            with written_beside(file) as beside:
                beside.write_text(json.dumps(kept))
        losses[rate] = kept["loss"]
    best = min(rates, key=lambda rate: losses[rate])
    by_name = {f"{rate:g}": loss for rate, loss in losses.items()}
    table = {"losses": by_name, "best": best, "iterations": iterations}
    with written_beside(folder / "rates.json") as beside:
        beside.write_text(json.dumps(table, indent=1) + "\n")
    _log.info("%s: loss after %d iterations by rate %s", folder.name, iterations, by_name)
    return best, by_name
