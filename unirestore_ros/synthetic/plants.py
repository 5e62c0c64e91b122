"""Leaves: trees, bare and green, and hedges, as pictures with alpha."""

from __future__ import annotations

import cv2
import numpy as np

from unirestore_ros.synthetic.light import Light
from unirestore_ros.synthetic.noise import blurred, generator, noise_patch, to_uint8

TREE_PIXELS = 576
LEAF_COLOURS = ((70, 92, 38), (92, 108, 44), (58, 80, 42), (104, 98, 48), (80, 104, 60))
AUTUMN_COLOURS = ((150, 96, 40), (140, 110, 48), (120, 72, 38))
BARK = (74, 64, 54)


def make_tree(seed: int, number: int, light: Light, bare: bool, autumn: bool) -> np.ndarray:
    """Premultiplied RGBA uint8, TREE_PIXELS square: a trunk in the middle of the lower edge."""
    rng = generator(seed, "tree", number)
    skeleton = np.zeros((TREE_PIXELS, TREE_PIXELS, 4), np.uint8)
    tips: list[tuple[float, float]] = []
    depth = 8 if bare else 5
    start = (TREE_PIXELS / 2, TREE_PIXELS - 1.0)
    _grow(skeleton, rng, start, -np.pi / 2, TREE_PIXELS * 0.2, TREE_PIXELS * 0.026, depth, tips)
    tint = light.on_wall(0.0)
    bark = noise_patch(rng, TREE_PIXELS, TREE_PIXELS, 0.6)[..., None]
    skeleton[..., :3] = to_uint8(skeleton[..., :3] * tint * (1 + 0.22 * bark))
    if bare:
        return _premultiplied(skeleton)
    colours = AUTUMN_COLOURS if autumn else LEAF_COLOURS
    colour = np.array(colours[rng.integers(len(colours))]) * rng.uniform(0.8, 1.15)
    return _premultiplied(_leafed(skeleton, rng, tips, colour, light))


def make_hedge(rng: np.random.Generator, light: Light, facing: float) -> np.ndarray:
    """Premultiplied RGBA, 8 m by 1.6 m at 40 px/m, with an uneven upper edge."""
    height, width = 64, 320
    fine, coarse = noise_patch(rng, height, width, 0.5), noise_patch(rng, height, width, 1.2)
    colour = np.array(LEAF_COLOURS[rng.integers(len(LEAF_COLOURS))]) * light.on_wall(facing)
    rows = np.linspace(1.15, 0.55, height)[:, None]
    shade = (rows + 0.28 * fine + 0.15 * coarse)[..., None]
    edge = 9 + 3.0 * coarse[height // 2] + 2.0 * fine[0]
    alpha = np.arange(height)[:, None] > edge + 2 * fine
    return _premultiplied(np.dstack((to_uint8(colour * shade), alpha * np.uint8(255))))


def _grow(
    picture: np.ndarray,
    rng: np.random.Generator,
    start: tuple[float, float],
    angle: float,
    length: float,
    thickness: float,
    depth: int,
    tips: list[tuple[float, float]],
) -> None:
    """A branch and what grows from it; ends of branches are noted in ``tips``."""
    end = (start[0] + length * np.cos(angle), start[1] + length * np.sin(angle))
    grey = float(rng.uniform(0.8, 1.2))
    colour = (*(grey * part for part in BARK), 255.0)
    points = [(round(point[0] * 16), round(point[1] * 16)) for point in (start, end)]
    width = max(1, round(thickness))
    cv2.line(picture, points[0], points[1], colour, width, cv2.LINE_8, 4)
    if depth <= 3:
        tips.append(end)
    if depth == 0:
        return
    for _ in range(int(rng.integers(2, 4)) if depth < 8 else 3):
        turn = rng.normal(0, 0.5) - 0.12 * np.cos(angle) * (depth < 4)
        _grow(
            picture,
            rng,
            end,
            angle + turn,
            length * rng.uniform(0.66, 0.86),
            thickness * rng.uniform(0.55, 0.72),
            depth - 1,
            tips,
        )


def _leafed(
    skeleton: np.ndarray,
    rng: np.random.Generator,
    tips: list[tuple[float, float]],
    colour: np.ndarray,
    light: Light,
) -> np.ndarray:
    """The skeleton behind and among some thousand leaf clumps, painted from dark to light."""
    picture = skeleton.copy()
    centres = np.array(tips)[rng.integers(len(tips), size=4800)]
    spread = TREE_PIXELS * 0.042
    points = centres + rng.normal(0, spread, centres.shape)
    middle, extent = centres.mean(axis=0), centres.std(axis=0) + 1
    outward = (points - middle) / extent
    brightness = (
        0.72
        - 0.16 * outward[:, 1]
        + 0.13 * light.sun * light.side * outward[:, 0]
        + rng.normal(0, 0.17, len(points))
    )
    tint = colour * (light.shade + 0.6 * light.sun * (light.sunlit - light.shade))
    order = np.argsort(brightness)
    shade = np.clip(brightness, 0.25, 1.35)[:, None] * rng.uniform(0.9, 1.1, (len(points), 3))
    leaves = zip(
        points[order].astype(int).tolist(),
        rng.integers((2, 1), (7, 4), (len(points), 2)).tolist(),
        rng.uniform(0, 180, len(points)).tolist(),
        (tint * shade)[order].tolist(),
        strict=True,
    )
    for centre, axes, angle, tone in leaves:
        cv2.ellipse(picture, tuple(centre), tuple(axes), angle, 0, 360, (*tone, 255.0), -1)
    grain = 1 + 0.16 * noise_patch(rng, TREE_PIXELS, TREE_PIXELS, 0.3)[..., None]
    picture[..., :3] = to_uint8(picture[..., :3] * grain)
    return picture


def _premultiplied(picture: np.ndarray) -> np.ndarray:
    picture = picture.copy()
    picture[..., 3] = to_uint8(blurred(picture[..., 3], 0.6).astype(np.float32))
    share = picture[..., 3:].astype(np.float32) / 255
    picture[..., :3] = to_uint8(picture[..., :3] * share)
    return picture
