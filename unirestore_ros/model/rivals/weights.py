"""Weights of rivals and ablations on disk: one safetensors file, with how they came about."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from unirestore_ros.files import written_beside
from unirestore_ros.model.config import TINY, Config
from unirestore_ros.model.rivals.ablations import SinglePrompt, WithoutCFRM, WithoutDenoising
from unirestore_ros.model.rivals.nafnet import NAFNet, NAFNetConfig
from unirestore_ros.model.rivals.promptir import PromptIR, PromptIRConfig
from unirestore_ros.model.rivals.urie import URIE, URIEConfig
from unirestore_ros.model.unirestore import UniRestore
from unirestore_ros.model.weights import WeightsError, check_tensors, read_metadata

RIVAL_KEY = "unirestore_rival"
LEFT_OUT = ("noise",)
"""Tensors that every fresh network has alike, and that are large."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """How a network is made of its configuration, and what it is made of by default."""

    network: Callable[[Any], nn.Module]
    config: NAFNetConfig | URIEConfig | PromptIRConfig | Config

    def make(self) -> nn.Module:
        return self.network(self.config)

    def read(self, values: dict[str, Any]) -> nn.Module:
        """A network of the configuration that a file names."""
        if isinstance(self.config, Config):
            return self.network(Config.from_dict(values))
        kind: Callable[..., Any] = type(self.config)
        tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return self.network(kind(**tuples))


KINDS: Mapping[str, Kind] = {
    "nafnet": Kind(NAFNet, NAFNetConfig()),
    "urie": Kind(URIE, URIEConfig()),
    "promptir": Kind(PromptIR, PromptIRConfig()),
    "unirestore-control": Kind(UniRestore, TINY),
    "unirestore-without-cfrm": Kind(WithoutCFRM, TINY),
    "unirestore-without-denoise": Kind(WithoutDenoising, TINY),
    "unirestore-single-prompt": Kind(SinglePrompt, TINY),
}


def save_rival(name: str, network: nn.Module, training: Mapping[str, Any], file: Path) -> None:
    """fp16; ``training``: iterations, rate, losses and what else tells how it was trained."""
    state = {
        key: value.detach().half().clone(memory_format=torch.contiguous_format)
        for key, value in network.state_dict().items()
        if key not in LEFT_OUT and value.is_floating_point()
    }
    about = {
        "name": name,
        "config": dataclasses.asdict(KINDS[name].config),
        "training": dict(training),
    }
    with written_beside(file) as beside:
        save_file(state, beside, {RIVAL_KEY: json.dumps(about)})


def read_rival(file: Path) -> dict[str, Any]:
    """``name``, ``config`` and ``training`` of a file; WeightsError for another kind of file."""
    text = read_metadata(file).get(RIVAL_KEY)
    if text is None:
        raise WeightsError(f"{file} holds no rival's weights: it has no {RIVAL_KEY}")
    about: dict[str, Any] = json.loads(text)
    return about


def load_rival(name: str, file: Path) -> nn.Module:
    """What ``save_rival`` wrote under this name, in float32 and evaluation mode."""
    about = read_rival(file)
    if about["name"] != name:
        raise WeightsError(f"{file} holds the weights of {about['name']}, not of {name}")
    network = KINDS[name].read(about["config"])
    fresh = network.state_dict()
    state = {key: value.float() for key, value in load_file(file).items()}
    state |= {k: v for k, v in fresh.items() if k in LEFT_OUT or not v.is_floating_point()}
    floats = {key: value for key, value in state.items() if value.is_floating_point()}
    shapes = {key: value.shape for key, value in fresh.items() if value.is_floating_point()}
    check_tensors(floats, shapes, str(file))
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)
