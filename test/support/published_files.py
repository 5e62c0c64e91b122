"""Narrow published files with random weights: SD-Turbo's folder, two checkpoints, an embedding."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unirestore_ros.model import SD_TURBO, Config, UniRestore
from unirestore_ros.model.published import SCHEDULE, STAGE1, STAGE2, WEIGHTS_NAME
from unirestore_ros.model.weights import random_network

State = dict[str, Tensor]


def narrow_config(width: int = 1) -> Config:
    """The published network with its channels divided by 8 / width, and shorter runs of blocks."""
    w = width
    assert SD_TURBO.unet is not None and SD_TURBO.controller is not None
    return dataclasses.replace(
        SD_TURBO,
        autoencoder=dataclasses.replace(
            SD_TURBO.autoencoder, channels=(16 * w, 32 * w, 64 * w, 64 * w), norm_num_groups=4
        ),
        unet=dataclasses.replace(
            SD_TURBO.unet,
            channels=(32 * w, 40 * w, 48 * w, 48 * w),
            heads=(4, 5, 6, 6),
            cross_attention_dim=64,
            norm_num_groups=8,
        ),
        controller=dataclasses.replace(
            SD_TURBO.controller,
            channels=(32 * w, 32 * w, 64 * w, 64 * w),
            out_channels=32 * w,
            time_embed_dim=128 * w,
            norm_num_groups=8,
        ),
        cfrm=dataclasses.replace(SD_TURBO.cfrm, naf_blocks=(1, 1, 2)),
        tfa=dataclasses.replace(SD_TURBO.tfa, feature_channels=(64 * w, 64 * w, 64 * w)),
        tasks=("cls", "ir", "seg"),
        min_side=64,
    )


@dataclasses.dataclass(frozen=True)
class Published:
    """Where the files of one network are."""

    sd_turbo: Path
    stage1: Path
    stage2: Path
    null_embedding: Path

    def options(self) -> list[str]:
        """As `fetch` takes them."""
        pairs = dataclasses.asdict(self).items()
        return [text for k, v in pairs for text in (f"--{k.replace('_', '-')}", str(v))]


def write_published(folder: Path, config: Config | None = None) -> tuple[Published, UniRestore]:
    network = random_network(config or narrow_config())
    state = dict(network.state_dict())
    files = Published(
        folder / "sd-turbo", folder / "s1.ckpt", folder / "s2.ckpt", folder / "empty.pt"
    )
    for stage, prefixes in ((files.stage1, STAGE1), (files.stage2, STAGE2)):
        stage.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"epoch": 3, "state_dict": _under(state, prefixes)}, stage)
    assert network.null_embedding is not None
    torch.save(network.null_embedding, files.null_embedding)
    _write_backbone(files.sd_turbo, network.config, state)
    return files, network


def _under(state: State, prefixes: dict[str, str]) -> State:
    """The tensors that have one of our prefixes, under the published ones."""
    return {
        published + key[len(ours) :]: value.clone()
        for published, ours in prefixes.items()
        for key, value in state.items()
        if key.startswith(ours)
    }


def _write_backbone(folder: Path, config: Config, state: State) -> None:
    vae, unet = config.autoencoder, config.unet
    assert unet is not None
    fields: dict[str, dict[str, Any]] = {
        "vae": {
            "block_out_channels": vae.channels,
            "layers_per_block": vae.layers_per_block,
            "norm_num_groups": vae.norm_num_groups,
        },
        "unet": {
            "block_out_channels": unet.channels,
            "layers_per_block": unet.layers_per_block,
            "norm_num_groups": unet.norm_num_groups,
            "cross_attention_dim": unet.cross_attention_dim,
            "attention_head_dim": unet.heads,
        },
    }
    for part, prefix in (("vae", "autoencoder.vae."), ("unet", "denoiser.unet.")):
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / "config.json").write_text(json.dumps(fields[part]))
        save_file(_under(state, {"": prefix}), folder / part / WEIGHTS_NAME)
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULE))


def edit_checkpoint(file: Path, change: Callable[[State], None]) -> None:
    content = torch.load(file, weights_only=True)
    change(content["state_dict"])
    torch.save(content, file)


def edit_safetensors(file: Path, change: Callable[[State], None]) -> None:
    state = {key: value.clone() for key, value in load_file(file).items()}
    change(state)
    save_file(state, file)
