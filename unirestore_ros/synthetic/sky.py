"""Sky with clouds, and the town's far outline, as one picture beyond everything."""

from __future__ import annotations

import cv2
import numpy as np

from unirestore_ros.synthetic.frame import BUILDING, SKY, TREE
from unirestore_ros.synthetic.light import Light
from unirestore_ros.synthetic.noise import generator, texture_noise, to_uint8

MARGIN = 1.5  # widths of the picture for one width of the frame


def make_sky(seed: int, light: Light, width: int, focal: float) -> tuple[np.ndarray, np.ndarray]:
    """RGB uint8 (rows, MARGIN * width) whose lower edge is the horizon, and its label map.

    width and focal length in the same pixels; rows reach 45 degrees up.
    """
    rng = generator(seed, "sky")
    rows, columns = round(focal), round(MARGIN * width)
    up = (np.arange(rows, dtype=np.float32)[::-1, None] + 0.5) / np.float32(focal)
    across = (np.arange(columns, dtype=np.float32)[None, :] - columns / 2) / np.float32(focal)
    share = np.clip(up / 0.75, 0, 1) ** 0.55
    picture = light.horizon + (light.zenith - light.horizon) * share[..., None]
    picture = np.repeat(picture.astype(np.float32), columns, axis=1)
    cover, shade = _clouds(rng, light, up, across)
    white = np.array((250, 250, 250)) * (0.95 + 0.05 * light.sun) * (1 - 0.27 * shade[..., None])
    white = white * (1 - 0.35 * share[..., None]) + light.horizon * 0.35 * share[..., None]
    picture += cover[..., None] * (white.astype(np.float32) - picture)
    glow = np.exp(-((across - light.side * 0.5) ** 2) * 3 - up * 2.5) * 34 * light.sun
    picture += glow[..., None] * np.array((1.0, 0.96, 0.86), np.float32)
    labels = np.full((rows, columns), SKY, np.uint8)
    _outline(picture, labels, rng, light)
    return to_uint8(picture), labels


def _clouds(
    rng: np.random.Generator, light: Light, up: np.ndarray, across: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cover and darkness, both (rows, columns) in [0, 1]: a flat layer seen from below."""
    field = texture_noise(rng, 512, 512, 1.5)
    distance = 1.0 / (up + 0.09)
    u = np.broadcast_to(distance * 60, (up.shape[0], across.shape[1])).astype(np.float32)
    v = (across * distance * 60 + 256).astype(np.float32)
    layer = cv2.remap(field, v, u, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    shifted = cv2.remap(field, v, u + 14, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    threshold = 1.6 - 3.0 * light.cloud_cover
    cover = np.clip((layer - threshold) / 1.3, 0, 1)
    return cover * cover * (3 - 2 * cover), np.clip(0.45 + 0.4 * shifted, 0, 1) * cover


def _outline(
    picture: np.ndarray, labels: np.ndarray, rng: np.random.Generator, light: Light
) -> None:
    """Trees and roofs some 400 m away, pale with haze, up to three degrees high."""
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
        picture[mask] = (tone * grain[..., None])[mask]
        labels[mask] = label
