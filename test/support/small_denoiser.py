"""A network as small as `tiny` that has a denoiser."""

from __future__ import annotations

import dataclasses

from unirestore_ros.model import TINY
from unirestore_ros.model.config import ControllerConfig, UNetConfig

TINY_WITH_DENOISER = dataclasses.replace(
    TINY,
    unet=UNetConfig(
        channels=(24, 48),
        layers_per_block=1,
        cross_attention_dim=None,
        norm_num_groups=8,
        prediction="v_prediction",
    ),
    controller=ControllerConfig(
        channels=(24, 48),
        out_channels=24,
        time_embed_dim=128,
        layers_per_block=1,
        heads=None,
        norm_num_groups=8,
    ),
    cfrm=dataclasses.replace(TINY.cfrm, naf_blocks=(0, 1, 2)),
)
