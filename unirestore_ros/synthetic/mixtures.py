"""Weather seldom comes alone: driving degradations one after another, in linear light.

The order is that of the light's way: what is in the air first, then the lens, then the camera (its
motion while the shutter is open, its exposure, its noise). Every part has the severity of the
mixture, and a generator of its own, so that a video's fog stays steady while its noise does not.
Nothing is rounded or clipped between the parts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unirestore_ros.synthetic.driving import DEGRADATIONS, checked_depth, frame_rng
from unirestore_ros.synthetic.radiometry import to_linear, to_srgb

MIXTURES: dict[str, tuple[str, ...]] = {
    "rain_at_night": ("rain", "low_light"),
    "fog_at_night": ("fog", "low_light"),
    "fog_and_noise": ("fog", "noise"),
    "snow_and_motion_blur": ("snow", "motion_blur"),
    "rain_and_lens_drops": ("rain", "lens_drops"),
    "motion_blur_and_noise": ("motion_blur", "noise"),
}
"""Names of ``driving.DEGRADATIONS`` in the order in which the light meets them. None is trained
on."""

RngOf = Callable[[str], np.random.Generator]


def mix(
    image: np.ndarray, name: str, severity: int, rng_of: RngOf, depth: np.ndarray | None = None
) -> np.ndarray:
    """Degraded copy of an RGB uint8 image (H,W,3) by every part of the mixture ``name``.

    ``rng_of`` gives the generator of a part by its name; ``depth`` as in ``driving.degrade``.
    Raises ValueError for an unknown name, severity, or a wrong shape.
    """
    if name not in MIXTURES:
        raise ValueError(f"unknown mixture {name!r}: one of {', '.join(MIXTURES)}")
    metres = checked_depth(image, severity, depth)
    light = to_linear(image)
    for part in MIXTURES[name]:
        light = DEGRADATIONS[part](light, severity - 1, rng_of(part), metres)
    return to_srgb(light)


def mix_frame(
    image: np.ndarray,
    name: str,
    severity: int,
    seed_key: str,
    frame: int,
    depth: np.ndarray | None = None,
) -> np.ndarray:
    """Frame number ``frame`` of a video; what is steady in a video is seeded alike in every one."""
    return mix(image, name, severity, lambda part: frame_rng(seed_key, part, frame), depth)
