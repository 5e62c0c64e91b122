"""What UniRestore is compared with: one table of baselines and ablations, and their weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unirestore_ros.files import written_beside
from unirestore_ros.model.baseline_networks import (
    URIE,
    NAFNet,
    NAFNetConfig,
    PromptIR,
    PromptIRConfig,
    URIEConfig,
)
from unirestore_ros.model.config import TINY, Config
from unirestore_ros.model.unirestore import LEVELS, UniRestore
from unirestore_ros.model.weights import SHIPPED_WEIGHTS, WeightsError, check_tensors, read_metadata


class WithoutCFRM(UniRestore):
    """UniRestore without CFRM: the encoder's features go to latent and skips as they are."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.cfrm = nn.ModuleList(nn.Identity() for _ in range(LEVELS))


class WithoutDenoising(UniRestore):
    """UniRestore without U-Net and Controller: the latent goes to the decoder as it is."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        del self.denoiser, self.controller

    def denoise(self, z0: Tensor, steps: int = 1, noise: Tensor | None = None) -> Tensor:
        return z0

    def predict(self, zt: Tensor, z0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return z0 as the clean latent, so that the control loss is its distance from that."""
        return z0, torch.zeros_like(z0)


class SinglePrompt(UniRestore):
    """UniRestore with one prompt, shared by all tasks."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.share_prompt()

    def share_prompt(self) -> None:
        """Put perception's prompt, one parameter, under every task's name."""
        shared = self.prompts["ir"]
        for task in self.config.tasks:
            self.prompts[task] = shared


# --- weights on disk

BASELINES_FOLDER = SHIPPED_WEIGHTS / "baselines"
BASELINE_KEY = "unirestore_rival"  # the name that the files have had from the first
LEFT_OUT = ("noise",)  # large, and the same in every fresh network


@dataclasses.dataclass(frozen=True)
class Baseline:
    """How a network is made from its configuration, and the default configuration."""

    network: Callable[[Any], nn.Module]
    config: NAFNetConfig | URIEConfig | PromptIRConfig | Config

    def make(self) -> nn.Module:
        return self.network(self.config)

    def read(self, values: dict[str, Any]) -> nn.Module:
        """Make a network of the configuration that a file holds."""
        if isinstance(self.config, Config):
            return self.network(Config.from_dict(values))
        kind: Callable[..., Any] = type(self.config)
        tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return self.network(kind(**tuples))


BASELINES: Mapping[str, Baseline] = {
    "nafnet": Baseline(NAFNet, NAFNetConfig()),
    "urie": Baseline(URIE, URIEConfig()),
    "promptir": Baseline(PromptIR, PromptIRConfig()),
    "unirestore-control": Baseline(UniRestore, TINY),
    "unirestore-without-cfrm": Baseline(WithoutCFRM, TINY),
    "unirestore-without-denoise": Baseline(WithoutDenoising, TINY),
    "unirestore-single-prompt": Baseline(SinglePrompt, TINY),
}


def save_baseline(name: str, network: nn.Module, training: Mapping[str, Any], file: Path) -> None:
    """Write weights in float16; ``training``: iterations, rate, losses: how it was trained."""
    state = {
        key: value.detach().half().clone(memory_format=torch.contiguous_format)
        for key, value in network.state_dict().items()
        if key not in LEFT_OUT and value.is_floating_point()
    }
    about = {
        "name": name,
        "config": dataclasses.asdict(BASELINES[name].config),
        "training": dict(training),
    }
    with written_beside(file) as beside:
        save_file(state, beside, {BASELINE_KEY: json.dumps(about)})


def read_baseline(file: Path) -> dict[str, Any]:
    """Read ``name``, ``config`` and ``training`` of a file; WeightsError for another kind."""
    text = read_metadata(file).get(BASELINE_KEY)
    if text is None:
        raise WeightsError(f"{file} holds no baseline's weights: it has no {BASELINE_KEY}")
    about: dict[str, Any] = json.loads(text)
    return about


def load_baseline(name: str, file: Path) -> nn.Module:
    """Read what ``save_baseline`` wrote under this name, in float32 and evaluation mode."""
    about = read_baseline(file)
    if about["name"] != name:
        raise WeightsError(f"{file} holds the weights of {about['name']}, not of {name}")
    network = BASELINES[name].read(about["config"])
    fresh = network.state_dict()
    state = {key: value.float() for key, value in load_file(file).items()}
    state |= {k: v for k, v in fresh.items() if k in LEFT_OUT or not v.is_floating_point()}
    floats = {key: value for key, value in state.items() if value.is_floating_point()}
    shapes = {key: value.shape for key, value in fresh.items() if value.is_floating_point()}
    check_tensors(floats, shapes, str(file))
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)
