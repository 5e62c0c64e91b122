"""Every width and count of the network, in one frozen dataclass with two presets.

``sd-turbo`` is the published network. ``tiny`` has narrow channels and no denoiser;
docs/model_card.md gives the reason for each thing that it changes.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """The autoencoder.

    ``kind`` "kl" is diffusers' AutoencoderKL. "tiny" starts from a pixel-unshuffle by 2, so that
    its first level already works at stride 2, and builds its levels from NAFBlocks.
    """

    kind: Literal["kl", "tiny"]
    channels: tuple[int, ...]
    """Widths of the encoder's levels; the first three carry a CFRM and give a skip."""
    blocks: tuple[int, ...] = ()
    """`tiny`: NAFBlocks of the encoder's levels, then of what stands before the latent."""
    decoder_blocks: tuple[int, ...] = ()
    """`tiny`: NAFBlocks of the decoder stem and of its up blocks, coarsest first."""
    layers_per_block: int = 2
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """The denoising U-Net, a diffusers UNet2DConditionModel."""

    channels: tuple[int, ...]
    layers_per_block: int = 2
    cross_attention_dim: int | None = 1024
    """Width of the empty prompt's embedding; None: no attention at all."""
    heads: tuple[int, ...] = ()
    norm_num_groups: int = 32
    prediction: Literal["epsilon", "v_prediction"] = "epsilon"
    """``v_prediction`` is for the baselines that have the denoiser which `tiny` once had."""


@dataclasses.dataclass(frozen=True)
class ControllerConfig:
    """The Controller, which steers the U-Net by the latent z0."""

    channels: tuple[int, ...]
    """Widths of its down blocks; the first is also the width of its time projection."""
    out_channels: int
    time_embed_dim: int
    layers_per_block: int = 2
    heads: int | None = 4
    """Attention heads in all but the last down block and in the mid block; None: no attention."""
    norm_num_groups: int = 32


@dataclasses.dataclass(frozen=True)
class CFRMConfig:
    """Complementary Feature Restoration Modules, one for each of the first three encoder levels."""

    naf_blocks: tuple[int, int, int]
    expand: int = 4
    groups: int = 16


@dataclasses.dataclass(frozen=True)
class TFAConfig:
    """Task Feature Adapters and their prompts, coarsest first."""

    feature_channels: tuple[int, int, int]
    """Channels of the decoder's features where the three adapters sit."""
    strides: tuple[int, int, int] = (8, 4, 2)
    prompt_length: int = 1
    gate_pool: int = 1
    """Average pooling of the skip before the gates, which average globally in the end."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The whole network.

    ``unet`` and ``controller``: without them the network has no denoiser and decodes the latent as
    the encoder gives it; ValueError for one alone. ``multiple``: image sides are padded to it.
    ``min_side``: a shorter side is first enlarged to it, as published; 0: it is not.
    """

    name: str
    autoencoder: AutoencoderConfig
    unet: UNetConfig | None
    controller: ControllerConfig | None
    cfrm: CFRMConfig
    tfa: TFAConfig
    tasks: tuple[str, ...]
    multiple: int
    min_side: int
    detail_gain: bool = False
    """Whether the decoder of `tiny` also predicts how much of the camera's detail to keep."""

    def __post_init__(self) -> None:
        if (self.unet is None) != (self.controller is None):
            raise ValueError(f"{self.name}: unet and controller go together, and one is missing")

    @property
    def skip_channels(self) -> tuple[int, int, int]:
        """Channels of the three skips, in the encoder's order, finest first."""
        a, b, c = self.autoencoder.channels[:3]
        return a, b, c

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Config:
        """Read what ``to_dict`` gave, also after JSON has made lists of its tuples."""
        parts = {
            "autoencoder": AutoencoderConfig,
            "unet": UNetConfig,
            "controller": ControllerConfig,
            "cfrm": CFRMConfig,
            "tfa": TFAConfig,
        }
        whole = {
            key: parts[key](**_tuples(value)) if key in parts and value is not None else value
            for key, value in values.items()
        }
        return cls(**_tuples(whole))


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}


SD_TURBO = Config(
    name="sd-turbo",
    autoencoder=AutoencoderConfig(kind="kl", channels=(128, 256, 512, 512)),
    unet=UNetConfig(channels=(320, 640, 1280, 1280), heads=(5, 10, 20, 20)),
    controller=ControllerConfig(
        channels=(256, 256, 512, 512), out_channels=256, time_embed_dim=1024
    ),
    cfrm=CFRMConfig(naf_blocks=(1, 1, 9)),
    tfa=TFAConfig(feature_channels=(512, 512, 512)),
    tasks=("ir", "cls", "seg"),
    multiple=64,
    min_side=512,
)

TINY = Config(
    name="tiny",
    autoencoder=AutoencoderConfig(
        kind="tiny",
        channels=(24, 48, 96),
        blocks=(0, 0, 0, 0),
        decoder_blocks=(1, 1, 2, 1),
    ),
    # At this size a denoiser gains too little (docs/quality.md): its operations went into three
    # more NAFBlocks of CFRM.
    unet=None,
    controller=None,
    cfrm=CFRMConfig(naf_blocks=(0, 2, 4), expand=2, groups=6),
    tfa=TFAConfig(feature_channels=(96, 48, 24), gate_pool=4),
    tasks=("ir", "cls", "seg", "det"),
    multiple=16,
    min_side=0,
)

PRESETS = {config.name: config for config in (TINY, SD_TURBO)}
