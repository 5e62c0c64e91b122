"""UniRestore with one part taken out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unirestore_ros.model.config import Config
from unirestore_ros.model.unirestore import LEVELS, UniRestore


class WithoutCFRM(UniRestore):
    """The encoder's features go to latent and skips as they are."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.cfrm = nn.ModuleList(nn.Identity() for _ in range(LEVELS))


class WithoutDenoising(UniRestore):
    """The encoder's latent goes to the decoder as it is: no U-Net, no Controller."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        del self.denoiser, self.controller

    def denoise(self, z0: Tensor, steps: int = 1, noise: Tensor | None = None) -> Tensor:
        return z0

    def predict(self, zt: Tensor, z0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """z0 itself stands for the clean latent, so that the control loss is its distance."""
        return z0, torch.zeros_like(z0)


class SinglePrompt(UniRestore):
    """One prompt, shared by all tasks."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.share_prompt()

    def share_prompt(self) -> None:
        """One parameter under every task's name, which begins as perception's."""
        shared = self.prompts["ir"]
        for task in self.config.tasks:
            self.prompts[task] = shared
