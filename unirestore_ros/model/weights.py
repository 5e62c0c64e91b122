"""Weights on disk: one safetensors file of our own, and the published files it can come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from unirestore_ros.files import written_beside
from unirestore_ros.model.config import (
    AutoencoderConfig,
    CFRMConfig,
    Config,
    ControllerConfig,
    TFAConfig,
    UNetConfig,
)
from unirestore_ros.model.denoiser import stored_noise
from unirestore_ros.model.unirestore import UniRestore

State = dict[str, Tensor]

CONFIG_KEY = "unirestore_config"
WHOLE_PRECISION = ("noise", "null_embedding")
"""Kept in float32 whatever the rest is stored in."""

PUBLISHED_PREFIXES = {
    "model.ae.vae.encoder.fr_blocks.": "cfrm.",
    "model.controller.": "controller.",
    "model.base_model.csc_editors.": "denoiser.csc_editors.",
    "model.ae.vae.decoder.task_prompts.": "prompts.",
    "model.ae.vae.decoder.task_editors.": "tfa.",
}


def save_weights(network: UniRestore, file: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write weights and configuration to a safetensors file, beside its place and then renamed."""
    state = {
        key: value.detach().to(torch.float32 if key in WHOLE_PRECISION else dtype).contiguous()
        for key, value in network.state_dict().items()
    }
    with written_beside(file) as beside:
        save_file(state, beside, {CONFIG_KEY: json.dumps(network.config.to_dict())})


def load_weights(file: Path) -> UniRestore:
    """Read a file that ``save_weights`` wrote: the network in float32, in evaluation mode."""
    with safe_open(file, framework="pt") as stream:
        metadata = stream.metadata() or {}
    if CONFIG_KEY not in metadata:
        raise ValueError(f"{file} is not a file of UniRestore weights: it has no {CONFIG_KEY}")
    config = Config.from_dict(json.loads(metadata[CONFIG_KEY]))
    return _assemble(config, load_file(file))


def from_released(sd_turbo: Path, stage1: Path, stage2: Path, null_embedding: Path) -> UniRestore:
    """The network from SD-Turbo's folder and UniRestore's two checkpoints.

    Every width is read from the files. ``null_embedding``: the published ``.pt`` tensor, or a
    safetensors file with the key ``null_embeds``, (1, 77, D).
    """
    published = _read_checkpoint(stage1) | _read_checkpoint(stage2)
    state = _renamed(published)
    vae, unet = (_read_json(sd_turbo / part / "config.json") for part in ("vae", "unet"))
    config = _published_config(vae, unet, state)
    for part, prefix in (("vae", "autoencoder.vae."), ("unet", "denoiser.unet.")):
        weights = load_file(sd_turbo / part / "diffusion_pytorch_model.safetensors")
        state.update({prefix + key: value for key, value in weights.items()})
    state["null_embedding"] = _read_embedding(null_embedding)
    state["noise"] = stored_noise()
    return _assemble(config, state)


def _assemble(config: Config, state: State) -> UniRestore:
    """A network whose parameters are the state's tensors; strict: every key must be there once."""
    with torch.device("meta"):
        network = UniRestore(config)
    network.load_state_dict({k: v.float() for k, v in state.items()}, assign=True)
    fresh = UniRestore.constants()
    for name, value in fresh.items():
        network.register_buffer(name, value, persistent=False)
    return network.eval().requires_grad_(False)


def _read_json(file: Path) -> dict[str, Any]:
    values = json.loads(file.read_text())
    if not isinstance(values, dict):
        raise ValueError(f"{file} does not hold a JSON object")
    return values


def _read_checkpoint(file: Path) -> State:
    """The state_dict of a Lightning checkpoint, read without running code from it."""
    checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{file} is not a Lightning checkpoint: it has no state_dict")
    state: State = checkpoint["state_dict"]
    return state


def _renamed(published: State) -> State:
    """Published keys -> ours; the frozen backbone's own keys, if any, come from SD-Turbo."""
    return {
        ours + key[len(prefix) :]: value
        for key, value in published.items()
        for prefix, ours in PUBLISHED_PREFIXES.items()
        if key.startswith(prefix)
    }


def _read_embedding(file: Path) -> Tensor:
    if file.suffix == ".safetensors":
        return load_file(file)["null_embeds"]
    embedding = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(embedding, Tensor) or embedding.ndim != 3:
        raise ValueError(f"{file} does not hold one (1, 77, D) tensor")
    return embedding


def _published_config(vae: dict[str, Any], unet: dict[str, Any], state: State) -> Config:
    groups = unet["norm_num_groups"]
    return Config(
        name="sd-turbo",
        autoencoder=AutoencoderConfig(
            kind="kl",
            channels=tuple(vae["block_out_channels"]),
            layers_per_block=vae["layers_per_block"],
            norm_num_groups=vae["norm_num_groups"],
            scaling_factor=vae["scaling_factor"],
        ),
        unet=UNetConfig(
            channels=tuple(unet["block_out_channels"]),
            layers_per_block=unet["layers_per_block"],
            cross_attention_dim=unet["cross_attention_dim"],
            heads=tuple(unet["attention_head_dim"]),
            norm_num_groups=groups,
        ),
        controller=_controller_config(state, groups),
        cfrm=_cfrm_config(state),
        tfa=_tfa_config(state),
        tasks=tuple(sorted(k.removeprefix("prompts.") for k in state if k.startswith("prompts."))),
        multiple=64,
        min_side=512,
    )


def _count(state: State, pattern: str) -> int:
    """How many keys ``pattern.format(i)`` exist for i = 0, 1, ..."""
    count = 0
    while pattern.format(count) in state:
        count += 1
    return count


def _controller_config(state: State, groups: int) -> ControllerConfig:
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


def _cfrm_config(state: State) -> CFRMConfig:
    a, b, c = (_count(state, f"cfrm.{i}.{{}}.conv1.weight") for i in range(3))
    wide, narrow = state[f"cfrm.0.{a}.conv_in.weight"].shape[:2]
    groups = state[f"cfrm.0.{a}.inter_group_attn.1.weight"].shape[0]
    return CFRMConfig(naf_blocks=(a, b, c), expand=wide // narrow, groups=groups)


def _tfa_config(state: State) -> TFAConfig:
    a, b, c = (state[f"tfa.{i}.conv_out.weight"].shape[0] for i in range(3))
    prompt = next(value for key, value in state.items() if key.startswith("prompts."))
    return TFAConfig(feature_channels=(a, b, c), prompt_length=prompt.shape[0])
