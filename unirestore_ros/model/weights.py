"""Weights on disk: one safetensors file with configuration, tensors and what they were made from.

Also networks of random weights, for measurements where there are no trained ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import unirestore_ros
from unirestore_ros.files import written_beside
from unirestore_ros.model.autoencoder import PhaseNotch
from unirestore_ros.model.config import Config
from unirestore_ros.model.denoiser import alphas_cumprod, stored_noise
from unirestore_ros.model.unirestore import UniRestore

State = dict[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)

# The weights that come with a checkout.
SHIPPED_WEIGHTS = Path(unirestore_ros.__file__).parents[1] / "engines" / "weights"

CONFIG_KEY = "unirestore_config"
SOURCES_KEY = "unirestore_sources"
# Kept in float32 whatever the rest is stored in: both are inputs, not weights, and the first DDIM
# step amplifies an error in them.
WHOLE_PRECISION = ("noise", "null_embedding")
# A file in half precision is converted in groups of this size, so that its pages do not all stay in
# memory beside the converted tensors.
GROUP_BYTES = 1 << 26
NAMED = 3  # how many tensors that do not fit an error names

# Standard deviations of random weights: of NAFBlocks' residual scales, which training starts at
# zero, of prompts, and of biases.
RANDOM_BRANCH, RANDOM_PROMPT, RANDOM_BIAS = 0.3, 3.0, 0.02


class WeightsError(ValueError):
    """A file that does not hold the weights it should; the message says which and what is wrong."""


def save_weights(
    network: UniRestore,
    file: Path,
    dtype: torch.dtype = torch.float16,
    sources: Mapping[str, str] | None = None,
) -> None:
    """Write weights and configuration to a safetensors file.

    ``sources``: what the weights were made from, by name, to be recorded in the file.
    """
    state = {
        key: value.detach().to(torch.float32 if key in WHOLE_PRECISION else dtype).contiguous()
        for key, value in network.state_dict().items()
    }
    metadata = {CONFIG_KEY: json.dumps(network.config.to_dict())}
    if sources:
        metadata[SOURCES_KEY] = json.dumps(dict(sources))
    with written_beside(file) as beside:
        save_file(state, beside, metadata)


def load_weights(file: Path) -> UniRestore:
    """Read what ``save_weights`` wrote: the network in float32, in evaluation mode.

    A file in float32 is mapped, not copied. Raises WeightsError, or OSError where unreadable.
    """
    values = read_metadata(file)
    if CONFIG_KEY not in values:
        raise WeightsError(f"{file} is not a file of UniRestore weights: it has no {CONFIG_KEY}")
    try:
        config = Config.from_dict(json.loads(values[CONFIG_KEY]))
    except (AttributeError, TypeError, ValueError) as error:
        raise WeightsError(f"{file}: its {CONFIG_KEY} cannot be read: {error}") from error
    return assemble(config, _read_float32(file), str(file))


def placed(network: Network, device: torch.device | str = "cpu") -> Network:
    """Move a network to the device, in the memory layout in which convolutions are fastest."""
    moved: Network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def read_sources(file: Path) -> dict[str, str]:
    """Read what a file of weights was made from; empty where it does not say."""
    values: dict[str, str] = json.loads(read_metadata(file).get(SOURCES_KEY, "{}"))
    return values


def read_metadata(file: Path) -> dict[str, str]:
    try:
        with safe_open(file, framework="pt") as stream:
            return stream.metadata() or {}
    except SafetensorError as error:
        raise WeightsError(f"{file} is not a whole safetensors file: {error}") from None


def _read_float32(file: Path) -> State:
    with safe_open(file, framework="pt") as stream:
        keys = list(stream.keys())
        if all(stream.get_slice(key).get_dtype() == "F32" for key in keys):
            return load_file(file)
    state: State = {}
    for group in _groups(file, keys):
        # Opened anew for each group: closing the file is what lets go of its pages.
        with safe_open(file, framework="pt") as stream:
            state |= {key: stream.get_tensor(key).to(torch.float32, copy=True) for key in group}
    return state


def _groups(file: Path, keys: list[str]) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    with safe_open(file, framework="pt") as stream:
        for key in keys:
            group.append(key)
            size += torch.Size(stream.get_slice(key).get_shape()).numel() * 2
            if size >= GROUP_BYTES:
                yield group
                group, size = [], 0
    yield group


def assemble(config: Config, state: State, origin: str) -> UniRestore:
    """Make a network whose parameters are the tensors of ``state`` themselves, not copies.

    Each tensor must be there once, in the shape that ``config`` gives it; ``origin`` names the
    files in the error.
    """
    with torch.device("meta"):  # no memory for weights that are replaced at once
        network = UniRestore(config)
    check_tensors(state, {k: v.shape for k, v in network.state_dict().items()}, origin)
    network.load_state_dict({k: v.float() for k, v in state.items()}, assign=True)
    network.alphas = alphas_cumprod()
    return network.eval().requires_grad_(False)


def check_tensors(
    state: Mapping[str, Tensor], expected: Mapping[str, torch.Size], origin: str
) -> None:
    """Raise WeightsError unless ``state`` has exactly the expected tensors, of numbers."""
    problems = {
        "missing": sorted(set(expected) - set(state)),
        "not expected": sorted(set(state) - set(expected)),
        "of another shape": [
            f"{key} is {tuple(state[key].shape)}, must be {tuple(shape)}"
            for key, shape in sorted(expected.items())
            if key in state and state[key].shape != shape
        ],
        "kind": [
            f"{key} is {value.dtype}, must be floating point"
            for key, value in sorted(state.items())
            if not value.is_floating_point()
        ],
    }
    found = [f"{what}: {_listed(keys)}" for what, keys in problems.items() if keys]
    if found:
        raise WeightsError(f"{origin}: tensors do not fit the network. {'; '.join(found)}")


def _listed(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


# --- random weights


@torch.no_grad()
def random_network(config: Config, seed: int = 0) -> UniRestore:
    """Make a network of random weights in float32; the same for one seed and version of torch.

    They are scaled so that signals neither die nor grow, so that a precision measured on them says
    something, though not what it would be on trained weights.
    """
    with torch.device("meta"):
        network = UniRestore(config)
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    normalised = {
        id(module.weight)
        for module in network.modules()
        if isinstance(module, nn.GroupNorm | nn.LayerNorm)
    }
    for name, parameter in network.named_parameters():
        if id(parameter) in normalised:
            parameter.fill_(1)
        else:
            parameter.normal_(0, _deviation(name, parameter), generator=generator)
    if network.null_embedding is not None:
        network.null_embedding.normal_(generator=generator)
    # Buffers that are computed, not drawn.
    network.alphas = alphas_cumprod()
    if network.noise is not None:
        network.noise = stored_noise()
    for module in network.modules():
        if isinstance(module, PhaseNotch):
            module.reset()
    return network.eval().requires_grad_(False)


def _deviation(name: str, parameter: Tensor) -> float:
    if name.startswith("prompts."):
        return RANDOM_PROMPT
    if name.endswith((".beta", ".gamma")):
        return RANDOM_BRANCH
    if parameter.ndim < 2:
        return RANDOM_BIAS
    # One over the root of a layer's inputs, so that the layer keeps the variance.
    return 1 / math.sqrt(parameter[0].numel())
