"""The training loop: one optimiser, a moving average, checkpoints that resume, curves.

Started by `accelerate launch` it runs on several GPUs: every process draws batches of its own and
their gradients are averaged, so that a batch is as many times as large.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from unirestore_ros.files import written_beside

Losses = dict[str, Tensor]
RECORD_EVERY = 20


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long and how fast to train. The learning rate warms up, then falls as a cosine to 1 %."""

    iterations: int
    learning_rate: float
    warm_up: int = 200
    average: float = 0.999
    """Decay of the moving average of the weights, which is what is kept."""
    clip: float = 1.0
    save_every: int = 250

    def rate(self, iteration: int) -> float:
        if iteration < self.warm_up:
            return self.learning_rate * (iteration + 1) / self.warm_up
        done = min((iteration - self.warm_up) / max(self.iterations - self.warm_up, 1), 1.0)
        return self.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)


def process_index() -> int:
    """Which of the processes of `accelerate launch` this is; 0 without it."""
    return int(Accelerator().process_index)


def training_device() -> torch.device:
    """This process's GPU where there is one, else the CPU."""
    device: torch.device = Accelerator().device
    return device


class Run:
    """One stage's training of some parameters of a network, in a folder that holds its state."""

    def __init__(
        self,
        folder: Path,
        network: nn.Module,
        groups: list[dict[str, object]],
        plan: Plan,
        bf16: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.network, self.plan, self.bf16 = folder, network, plan, bf16
        self._accelerator = Accelerator()
        if not self._leads:
            # The same weights in every process, but noise of its own.
            torch.manual_seed(torch.initial_seed() + process_index())
        for group in groups:
            group.setdefault("rate_factor", 1.0)
        self.optimizer = torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.95))
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
        return self.folder / "checkpoint.pt"

    def train(self, step: Callable[[int], Losses]) -> nn.Module:
        """Call ``step`` until the plan is done; returns the averaged network."""
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
            rate = self._set_rate()
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

    def _set_rate(self) -> float:
        rate = self.plan.rate(self.iteration)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        return rate

    def _learn(self, losses: Losses, trainable: Sequence[nn.Parameter]) -> None:
        """One step of the optimiser; a batch whose gradient is not finite is left out."""
        self.optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        if self._accelerator.num_processes > 1:
            self._average_gradients(trainable)
        norm = nn.utils.clip_grad_norm_(trainable, self.plan.clip)
        if torch.isfinite(norm):
            self.optimizer.step()

    def _average_gradients(self, trainable: Sequence[nn.Parameter]) -> None:
        """Over the processes. The stages call parts of the network, not its forward, which is
        where DistributedDataParallel would have done it."""
        gradients = [p.grad for p in trainable if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        means = self._accelerator.reduce(flat, "mean").split([g.numel() for g in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.plan.average, (1 + self.iteration) / (10 + self.iteration))
        for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)

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


class Curves:
    """Losses and learning rate: ``losses.jsonl``, and the same for TensorBoard, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "losses.jsonl"
        self._board = SummaryWriter(str(folder))

    def record(
        self, iteration: int, seconds: float, rate: float, values: Mapping[str, float]
    ) -> None:
        line = {"iteration": iteration, "seconds": round(seconds, 1), "rate": rate}
        rounded = {name: round(value, 6) for name, value in values.items()}
        with self._file.open("a") as stream:
            stream.write(json.dumps(line | rounded) + "\n")
        for name, value in ({"rate": rate} | dict(values)).items():
            self._board.add_scalar(name, value, iteration)
        self._board.flush()
