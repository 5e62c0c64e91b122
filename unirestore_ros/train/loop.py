"""The training loop: one optimiser, a moving average, checkpoints that resume, a loss plot."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from unirestore_ros.files import written_beside

Losses = dict[str, Tensor]


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
        for group in groups:
            group.setdefault("rate_factor", 1.0)
        self.optimizer = torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.95))
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.iteration = 0
        self.seconds = 0.0
        self._resume()

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def train(self, step: Callable[[int], Losses]) -> nn.Module:
        """Call ``step`` until the plan is done; returns the averaged network."""
        trainable = [p for group in self.optimizer.param_groups for p in group["params"]]
        bar = tqdm(total=self.plan.iterations, initial=self.iteration, desc=self.folder.name)
        while self.iteration < self.plan.iterations:
            started = time.monotonic()
            rate = self.plan.rate(self.iteration)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["rate_factor"]
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self.bf16):
                losses = step(self.iteration)
            self.optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            norm = nn.utils.clip_grad_norm_(trainable, self.plan.clip)
            if torch.isfinite(norm):
                self.optimizer.step()
            self._update_average()
            self.iteration += 1
            self.seconds += time.monotonic() - started
            bar.update()
            self._record(losses, rate, bar)
        self.save()
        return self.average

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.plan.average, (1 + self.iteration) / (10 + self.iteration))
        for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)

    def _record(self, losses: Losses, rate: float, bar: tqdm[None]) -> None:
        if self.iteration % 20 == 0 or self.iteration == self.plan.iterations:
            values = {name: round(float(loss.detach()), 6) for name, loss in losses.items()}
            bar.set_postfix(values)
            line = {"iteration": self.iteration, "seconds": round(self.seconds, 1), "rate": rate}
            with (self.folder / "losses.jsonl").open("a") as stream:
                stream.write(json.dumps(line | values) + "\n")
        if self.iteration % self.plan.save_every == 0:
            self.save()

    def save(self) -> None:
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
