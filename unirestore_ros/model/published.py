"""Reads the published files: SD-Turbo's folder, UniRestore's two checkpoints, the empty prompt.

Every width is taken from the files. Pickles are read as weights only, so that no code in them runs;
what does not fit is refused with the reason. Keys and layout: github.com/unirestore/UniRestore.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from unirestore_ros.model.config import (
    SD_TURBO,
    AutoencoderConfig,
    CFRMConfig,
    Config,
    ControllerConfig,
    TFAConfig,
    UNetConfig,
)
from unirestore_ros.model.denoiser import stored_noise
from unirestore_ros.model.unirestore import UniRestore
from unirestore_ros.model.weights import State, WeightsError, assemble

# Published prefixes -> ours. Lightning left the frozen modules out when it saved the checkpoints.
STAGE1 = {
    "model.ae.vae.encoder.fr_blocks.": "cfrm.",
    "model.controller.": "controller.",
    "model.base_model.csc_editors.": "denoiser.csc_editors.",
}
STAGE2 = {
    "model.ae.vae.decoder.task_prompts.": "prompts.",
    "model.ae.vae.decoder.task_editors.": "tfa.",
}

WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"
SD_TURBO_FILES = (
    "scheduler/scheduler_config.json",
    "vae/config.json",
    f"vae/{WEIGHTS_NAME}",
    "unet/config.json",
    f"unet/{WEIGHTS_NAME}",
)
# The noise schedule that the denoiser's constants are made for.
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}
ZIP_MAGIC = b"PK\x03\x04"
# Names in VAEs that diffusers before 0.18 saved: 1x1 convolutions, which are linear layers now.
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
DEFAULT_SCALING_FACTOR = 0.18215


def from_released(sd_turbo: Path, stage1: Path, stage2: Path, null_embedding: Path) -> UniRestore:
    """Load the network from SD-Turbo's folder and UniRestore's two checkpoints, in float32.

    ``null_embedding``: the published ``.pt`` tensor, or a safetensors file with the key
    ``null_embeds``, (1, 77, D). Files are mapped, not copied. Raises WeightsError for contents that
    do not fit, OSError for files that cannot be read.
    """
    state = _read_stage(stage1, STAGE1) | _read_stage(stage2, STAGE2)
    autoencoder, unet = _backbone_config(sd_turbo)
    config = Config(
        name="sd-turbo",
        autoencoder=autoencoder,
        unet=unet,
        controller=_controller_config(state, unet.norm_num_groups),
        cfrm=_cfrm_config(state),
        tfa=_tfa_config(state),
        tasks=tuple(sorted(k.removeprefix("prompts.") for k in state if k.startswith("prompts."))),
        multiple=64,
        min_side=512,
    )
    state |= _backbone(sd_turbo, null_embedding)
    return assemble(config, dict(state), f"{sd_turbo}, {stage1}, {stage2}, {null_embedding}")


def from_sd_turbo(sd_turbo: Path, null_embedding: Path, tasks: tuple[str, ...]) -> UniRestore:
    """Load SD-Turbo with untrained CFRM, Controller, SC-Tuner, TFA and prompts.

    Stage 1 starts from it at the published size. Raises as ``from_released``.
    """
    autoencoder, unet = _backbone_config(sd_turbo)
    width = autoencoder.channels[-1]
    tfa = dataclasses.replace(SD_TURBO.tfa, feature_channels=(width, width, width))
    config = dataclasses.replace(SD_TURBO, autoencoder=autoencoder, unet=unet, tfa=tfa, tasks=tasks)
    fresh = UniRestore(config).state_dict()
    origin = f"{sd_turbo}, {null_embedding}"
    return assemble(config, fresh | _backbone(sd_turbo, null_embedding), origin)


# --- files


class _Tensors(State):
    """A state whose KeyError is a WeightsError that names the missing tensor."""

    def __missing__(self, key: str) -> Tensor:
        raise WeightsError(f"the checkpoints have no tensor {key}")

    def __or__(self, other: State) -> _Tensors:  # type: ignore[override]
        return _Tensors({**self, **other})


def _integers(values: dict[str, Any], name: str, file: Path) -> tuple[int, ...]:
    found = values.get(name)
    if not isinstance(found, list) or not all(type(value) is int for value in found):
        raise WeightsError(f"{file}: {name} must be a list, is {found!r}")
    return tuple(found)


def _integer(values: dict[str, Any], name: str, file: Path) -> int:
    found = values.get(name)
    if type(found) is not int:  # a bool is an int too
        raise WeightsError(f"{file}: {name} must be a whole number: {found!r}")
    return found


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WeightsError(f"{file} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise WeightsError(f"{file} does not hold a JSON object")
    return values


def _check_schedule(file: Path) -> None:
    values = _read_json(file)
    for field, expected in SCHEDULE.items():
        if values.get(field) != expected:
            raise WeightsError(
                f"{file}: {field} is {values.get(field)!r}, SD-Turbo's is {expected!r}"
            )


def _read_safetensors(file: Path) -> State:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise WeightsError(f"{file} is not a whole safetensors file: {error}") from None


def read_pickle(file: Path) -> Any:
    """Read a file that torch.save wrote, mapped, without running code from it."""
    with file.open("rb") as stream:
        is_zip = stream.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found:
            raise WeightsError(
                f"{file} holds more than weights: it would run {found.group(1)}. Nothing of it was"
                " run; do not load it by other means"
            ) from None
        raise _not_whole(file, error) from None
    except (RuntimeError, EOFError, OSError) as error:
        raise _not_whole(file, error) from None


def _not_whole(file: Path, error: Exception) -> WeightsError:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return WeightsError(f"{file} is not a whole checkpoint of torch.save: {first}")


def _read_stage(file: Path, prefixes: dict[str, str]) -> _Tensors:
    """Read the tensors of a Lightning checkpoint, under our names; others are refused."""
    checkpoint = read_pickle(file)
    published = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(published, dict):
        raise WeightsError(f"{file} is not a Lightning checkpoint: it has no state_dict")
    state = _Tensors()
    for key, value in published.items():
        ours = next((p for p in prefixes if isinstance(key, str) and key.startswith(p)), None)
        if ours is None or not isinstance(value, Tensor):
            raise WeightsError(
                f"{file}: {key!r} is not expected in this checkpoint, which holds"
                f" {', '.join(prefix + '*' for prefix in prefixes)}"
            )
        state[prefixes[ours] + key[len(ours) :]] = value
    return state


def read_embedding(file: Path) -> Tensor:
    """Read the empty prompt's embedding, (1, 77, D)."""
    if file.suffix == ".safetensors":
        embedding = _read_safetensors(file).get("null_embeds")
    else:
        embedding = read_pickle(file)
    if not isinstance(embedding, Tensor) or embedding.ndim != 3:
        raise WeightsError(f"{file} does not hold one (1, 77, D) tensor, null_embeds")
    return embedding


def _prefixed(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def _current_names(state: State) -> State:
    renamed = {}
    for key, value in state.items():
        path = key.split(".")
        if "attentions" in path and path[-2] in OLD_ATTENTION:
            key = ".".join((*path[:-2], OLD_ATTENTION[path[-2]], path[-1]))
            value = value.flatten(1) if path[-1] == "weight" else value
        renamed[key] = value
    return renamed


# --- configuration


def _backbone(sd_turbo: Path, null_embedding: Path) -> State:
    """Read the frozen tensors, under our names."""
    state = _prefixed(
        "autoencoder.vae.", _current_names(_read_safetensors(sd_turbo / "vae" / WEIGHTS_NAME))
    )
    state |= _prefixed("denoiser.unet.", _read_safetensors(sd_turbo / "unet" / WEIGHTS_NAME))
    return state | {"null_embedding": read_embedding(null_embedding), "noise": stored_noise()}


def _backbone_config(sd_turbo: Path) -> tuple[AutoencoderConfig, UNetConfig]:
    _check_schedule(sd_turbo / "scheduler" / "scheduler_config.json")
    vae_file, unet_file = (sd_turbo / part / "config.json" for part in ("vae", "unet"))
    vae, unet = _read_json(vae_file), _read_json(unet_file)
    autoencoder = AutoencoderConfig(
        kind="kl",
        channels=_integers(vae, "block_out_channels", vae_file),
        layers_per_block=_integer(vae, "layers_per_block", vae_file),
        norm_num_groups=_integer(vae, "norm_num_groups", vae_file),
        scaling_factor=float(vae.get("scaling_factor", DEFAULT_SCALING_FACTOR)),
    )
    return autoencoder, UNetConfig(
        channels=_integers(unet, "block_out_channels", unet_file),
        layers_per_block=_integer(unet, "layers_per_block", unet_file),
        cross_attention_dim=_integer(unet, "cross_attention_dim", unet_file),
        heads=_integers(unet, "attention_head_dim", unet_file),
        norm_num_groups=_integer(unet, "norm_num_groups", unet_file),
    )


def _count(state: State, pattern: str) -> int:
    """Count the keys ``pattern.format(i)`` that exist for i = 0, 1, ..."""
    count = 0
    while pattern.format(count) in state:
        count += 1
    return count


def _controller_config(state: _Tensors, groups: int) -> ControllerConfig:
    levels = _count(state, "controller.fea_tran.{}.conv1.weight")
    widths = tuple(
        state[f"controller.down_blocks.{i}.resnets.0.conv1.weight"].shape[0] for i in range(levels)
    )
    return ControllerConfig(
        channels=widths,
        out_channels=state["controller.fea_tran.0.conv1.weight"].shape[0],
        time_embed_dim=state["controller.time_embedding.linear_1.weight"].shape[0],
        layers_per_block=_count(state, "controller.down_blocks.0.resnets.{}.conv1.weight"),
        norm_num_groups=groups,
    )


def _cfrm_config(state: _Tensors) -> CFRMConfig:
    a, b, c = (_count(state, f"cfrm.{i}.{{}}.conv1.weight") for i in range(3))
    wide, narrow = state[f"cfrm.0.{a}.conv_in.weight"].shape[:2]
    groups = state[f"cfrm.0.{a}.inter_group_attn.1.weight"].shape[0]
    return CFRMConfig(naf_blocks=(a, b, c), expand=wide // narrow, groups=groups)


def _tfa_config(state: _Tensors) -> TFAConfig:
    a, b, c = (state[f"tfa.{i}.conv_out.weight"].shape[0] for i in range(3))
    prompts = [value for key, value in state.items() if key.startswith("prompts.")]
    if not prompts or prompts[0].ndim != 2:
        raise WeightsError("the checkpoints have no prompt (T, C) of any task")
    return TFAConfig(feature_channels=(a, b, c), prompt_length=prompts[0].shape[0])
