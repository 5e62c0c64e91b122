"""Weights on disk: one safetensors file that holds configuration, tensors and their sources."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import unirestore_ros
from unirestore_ros.files import written_beside
from unirestore_ros.model.config import Config
from unirestore_ros.model.denoiser import alphas_cumprod
from unirestore_ros.model.unirestore import UniRestore

State = dict[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)

SHIPPED_WEIGHTS = Path(unirestore_ros.__file__).parents[1] / "engines" / "weights"
"""Folder of the weights that come with a checkout."""

CONFIG_KEY = "unirestore_config"
SOURCES_KEY = "unirestore_sources"
WHOLE_PRECISION = ("noise", "null_embedding")
"""Kept in float32 whatever the rest is stored in."""
GROUP_BYTES = 1 << 26
"""How much of a file in half precision is converted before its pages are let go of."""
NAMED = 3
"""How many offending tensors a refusal names."""


class WeightsError(ValueError):
    """A file that does not hold the weights it should; the message says which and what is wrong."""


def save_weights(
    network: UniRestore,
    file: Path,
    dtype: torch.dtype = torch.float16,
    sources: Mapping[str, str] | None = None,
) -> None:
    """Write weights and configuration to a safetensors file, beside its place and then renamed.

    ``sources``: what the weights were made from, by name, for whoever asks later.
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
    """Read a file that ``save_weights`` wrote: the network in float32, in evaluation mode.

    A file in float32 is mapped, not copied. Raises WeightsError, or OSError where unreadable.
    """
    values = read_metadata(file)
    if CONFIG_KEY not in values:
        raise WeightsError(f"{file} is not a file of UniRestore weights: it has no {CONFIG_KEY}")
    config = Config.from_dict(json.loads(values[CONFIG_KEY]))
    return assemble(config, _read_float32(file), str(file))


def placed(network: Network, device: torch.device | str = "cpu") -> Network:
    """Move a network to the device, in the memory layout in which convolutions are fastest."""
    moved: Network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def read_sources(file: Path) -> dict[str, str]:
    """What a file of weights was made from; empty where it does not say."""
    values: dict[str, str] = json.loads(read_metadata(file).get(SOURCES_KEY, "{}"))
    return values


def read_metadata(file: Path) -> dict[str, str]:
    try:
        with safe_open(file, framework="pt") as stream:
            return stream.metadata() or {}
    except SafetensorError as error:
        raise WeightsError(f"{file} is not a whole safetensors file: {error}") from None


def _read_float32(file: Path) -> State:
    """All tensors in float32. The pages of a file in another precision do not stay in memory: it is
    mapped anew for each group of tensors."""
    with safe_open(file, framework="pt") as stream:
        keys = list(stream.keys())
        if all(stream.get_slice(key).get_dtype() == "F32" for key in keys):
            return load_file(file)
    state: State = {}
    for group in _groups(file, keys):
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
    """A network whose parameters are the state's tensors themselves; each must be there once, in
    the shape that ``config`` gives it. ``origin`` names the files in a refusal."""
    with torch.device("meta"):
        network = UniRestore(config)
    check_tensors(state, {k: v.shape for k, v in network.state_dict().items()}, origin)
    network.load_state_dict({k: v.float() for k, v in state.items()}, assign=True)
    network.alphas = alphas_cumprod()
    return network.eval().requires_grad_(False)


def check_tensors(
    state: Mapping[str, Tensor], expected: Mapping[str, torch.Size], origin: str
) -> None:
    """Raise WeightsError unless ``state`` has exactly the expected tensors, of numbers."""
    missing = sorted(set(expected) - set(state))
    foreign = sorted(set(state) - set(expected))
    wrong = [
        f"{key} is {tuple(state[key].shape)}, must be {tuple(shape)}"
        for key, shape in sorted(expected.items())
        if key in state and state[key].shape != shape
    ]
    kinds = [
        f"{key} is {value.dtype}, must be floating point"
        for key, value in sorted(state.items())
        if not value.is_floating_point()
    ]
    problems = {
        "missing": missing,
        "not expected": foreign,
        "of another shape": wrong,
        "kind": kinds,
    }
    said = [f"{what}: {_listed(keys)}" for what, keys in problems.items() if keys]
    if said:
        raise WeightsError(f"{origin}: tensors do not fit the network. {'; '.join(said)}")


def _listed(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
