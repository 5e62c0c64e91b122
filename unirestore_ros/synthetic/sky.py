"""Time of day and weather of a clear drive, decided by the seed: light, sky and far outline."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from unirestore_ros.synthetic.frame import BUILDING, SKY, TREE
from unirestore_ros.synthetic.noise import Array, Rng, generator, texture_noise, to_uint8


@dataclass(frozen=True)
class Light:
    """sun: 0 overcast to 1 bright; side: where the sun stands, -1 left, +1 right;
    shadow_reach: metres of shadow across the road for each metre of height; colours are RGB in
    [0, 1] for the shaded and the sunlit face, 0 to 255 for sky and haze."""

    sun: float
    side: float
    shadow_reach: float
    shade: Array
    sunlit: Array
    zenith: Array
    horizon: Array
    cloud_cover: float
    haze_m: float
    exposure: float

    def on_wall(self, facing: float) -> Array:
        """Compute the light on a wall that faces left (-1), right (+1) or the camera (0)."""
        share = np.clip(0.25 + 0.75 * self.side * facing if facing else 0.45, 0.0, 1.0)
        return self.shade + (self.sunlit - self.shade) * self.sun * share


def make_light(seed: int) -> Light:
    rng = generator(seed, "light")
    sun = float(np.clip(rng.beta(1.3, 1.0), 0.02, 1.0))
    low = rng.random() * sun  # 1: a low, warm sun
    warm = np.array((1.0, 1.0 - 0.08 * low, 1.0 - 0.22 * low))
    blue = rng.uniform(0.82, 1.08)
    clear = np.array((128, 182, 238)) * blue
    grey = np.array((216, 221, 227)) * rng.uniform(0.82, 1.05)
    cover = float(np.clip(1.05 - sun + rng.normal(0, 0.15), 0.05, 1.0))
    overcast = np.clip((cover - 0.5) * 2, 0, 1)
    return Light(
        sun=sun,
        side=float(rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 1.0)),
        shadow_reach=float(rng.uniform(0.25, 0.6) + 0.9 * low),
        shade=np.array((0.52, 0.56, 0.64)) + (1 - sun) * np.array((0.30, 0.27, 0.20)),
        sunlit=warm * 1.2,
        zenith=clear + (grey * 0.9 - clear) * overcast,
        horizon=np.array((240, 244, 248)) * rng.uniform(0.92, 1.06) * warm**0.5,
        cloud_cover=cover,
        haze_m=float(rng.uniform(350, 1400)),
        exposure=float(rng.uniform(0.88, 1.2)),
    )


MARGIN = 1.5  # widths of the image for one width of the frame


def make_sky(seed: int, light: Light, width: int, focal: float) -> tuple[Array, Array]:
    """Draw the sky, RGB uint8 (rows, MARGIN * width) down to the horizon, and its label map.

    width and focal length in the same pixels; rows reach 45 degrees up.
    """
    rng = generator(seed, "sky")
    rows, columns = round(focal), round(MARGIN * width)
    up = (np.arange(rows, dtype=np.float32)[::-1, None] + 0.5) / np.float32(focal)
    across = (np.arange(columns, dtype=np.float32)[None, :] - columns / 2) / np.float32(focal)
    share = np.clip(up / 0.75, 0, 1) ** 0.55
    image = light.horizon + (light.zenith - light.horizon) * share[..., None]
    image = np.repeat(image.astype(np.float32), columns, axis=1)
    cover, shade = _clouds(rng, light, up, across)
    white = np.array((250, 250, 250)) * (0.95 + 0.05 * light.sun) * (1 - 0.27 * shade[..., None])
    white = white * (1 - 0.35 * share[..., None]) + light.horizon * 0.35 * share[..., None]
    image += cover[..., None] * (white.astype(np.float32) - image)
    glow = np.exp(-((across - light.side * 0.5) ** 2) * 3 - up * 2.5) * 34 * light.sun
    image += glow[..., None] * np.array((1.0, 0.96, 0.86), np.float32)
    labels = np.full((rows, columns), SKY, np.uint8)
    _outline(image, labels, rng, light)
    return to_uint8(image), labels


def _clouds(rng: Rng, light: Light, up: Array, across: Array) -> tuple[Array, Array]:
    """Draw the clouds' cover and darkness, both (rows, columns) in [0, 1]: a flat layer seen from
    below."""
    field = texture_noise(rng, 512, 512, 1.5)
    distance = 1.0 / (up + 0.09)
    u = np.broadcast_to(distance * 60, (up.shape[0], across.shape[1])).astype(np.float32)
    v = (across * distance * 60 + 256).astype(np.float32)
    layer = cv2.remap(field, v, u, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    shifted = cv2.remap(field, v, u + 14, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    threshold = 1.6 - 3.0 * light.cloud_cover
    cover = np.clip((layer - threshold) / 1.3, 0, 1)
    return cover * cover * (3 - 2 * cover), np.clip(0.45 + 0.4 * shifted, 0, 1) * cover


def _outline(image: Array, labels: Array, rng: Rng, light: Light) -> None:
    """Paint trees and roofs some 400 m away, pale with haze, up to three degrees high."""
    rows, columns = labels.shape
    focal = rows
    fuzz = texture_noise(rng, 64, columns, 1.0)
    trees = (0.02 + 0.009 * fuzz[0] + 0.004 * fuzz[9]) * focal
    roofs = np.zeros(columns)
    x = 0
    while x < columns:
        span = int(rng.integers(focal // 40, focal // 10))
        if rng.random() < 0.5:
            roofs[x : x + span] = rng.uniform(0.015, 0.05) * focal
        x += span
    height = np.arange(rows)[::-1, None]
    grain = 1 + 0.1 * cv2.resize(fuzz, (columns, rows))
    fade = np.exp(-400 / light.haze_m * 1.6)
    for edge, label, colour in ((roofs, BUILDING, (120, 112, 108)), (trees, TREE, (66, 76, 54))):
        mask = height < edge[None, :]
        tone = np.array(colour) * light.on_wall(0.0) * fade + light.horizon * (1 - fade)
        image[mask] = (tone * grain[..., None])[mask]
        labels[mask] = label
