"""Pedestrians and cyclists: drawn figures, seen from behind or in front, with a walking phase."""

from __future__ import annotations

import cv2
import numpy as np

from unirestore_ros.synthetic.noise import (
    Array,
    Colour,
    Rng,
    blurred,
    generator,
    noise_patch,
    palette,
    to_uint8,
)
from unirestore_ros.synthetic.sky import Light

PIXELS_PER_M = 110
PHASES = 8
CLOTHES = palette("282c3a 1c1c1e 782428 3c4a60 969084 4e5442 c4beb4 345c80 aa7832")
SKINS = palette("d6aa8e b08062 78523c e2baa0")
HAIR = palette("241c18 5a422a 96784c 787674")


def make_pedestrian(seed: int, number: int, phase: int, towards: bool, light: Light) -> Array:
    """Draw a pedestrian, premultiplied RGBA, 1 m by 1.9 m; ``towards``: the face is seen."""
    rng = generator(seed, "pedestrian", number)
    figure = _Figure(1.0, 1.9)
    coat, trousers = _pick(rng, CLOTHES), _pick(rng, CLOTHES) * 0.7
    skin, hair = _pick(rng, SKINS), _pick(rng, HAIR)
    build = rng.uniform(0.9, 1.15)
    swing = np.sin(2 * np.pi * phase / PHASES)
    long_coat = rng.random() < 0.35
    for side in (-1, 1):
        lift = max(0.0, swing * side)
        hip, foot = 0.08 * build * side, (0.085 + 0.03 * swing) * side
        tone = trousers * (1.0 if side < 0 else 0.85)
        figure.limb((hip, 0.92), (0.1 * side, 0.5 + 0.05 * lift), 0.17 * build, 0.13, tone)
        figure.limb((0.1 * side, 0.5 + 0.05 * lift), (foot, 0.08 + 0.16 * lift), 0.13, 0.1, tone)
        figure.limb(
            (foot, 0.09 + 0.16 * lift), (foot * 1.15, 0.03 + 0.14 * lift), 0.11, 0.12, (24, 22, 22)
        )
    for side in (-1, 1):
        reach = 0.06 * swing * side
        elbow, hand = (0.27 * build * side, 1.13), (0.27 * build * side, 0.86 + reach)
        figure.limb((0.2 * build * side, 1.42), elbow, 0.12, 0.1, coat * 0.85)
        figure.limb(elbow, hand, 0.1, 0.07, coat * 0.8)
        figure.disc(hand, 0.045, skin)
    bottom = 0.7 if long_coat else 0.9
    figure.limb((0.0, 1.4), (0.0, bottom), 0.42 * build, 0.36 * build, coat)
    if rng.random() < 0.4:
        figure.limb((0.02, 1.36), (0.02, 1.02), 0.28, 0.24, _pick(rng, CLOTHES))
    _head(figure, skin, hair, 1.62, towards)
    return figure.finished(rng, light)


def make_cyclist(seed: int, number: int, phase: int, towards: bool, light: Light) -> Array:
    """Draw rider and bicycle along the line of sight, premultiplied RGBA, 1 m by 1.9 m."""
    rng = generator(seed, "cyclist", number)
    figure = _Figure(1.0, 1.9)
    coat, trousers = _pick(rng, CLOTHES) * 1.1, _pick(rng, CLOTHES) * 0.65
    skin = _pick(rng, SKINS)
    figure.oval((0.0, 0.34), (0.035, 0.34), (20, 20, 20))
    figure.limb((0.0, 0.95), (0.0, 0.4), 0.05, 0.05, _pick(rng, CLOTHES))
    figure.limb((-0.26, 1.0), (0.26, 1.0), 0.04, 0.04, (40, 40, 42))
    swing = np.sin(2 * np.pi * phase / PHASES)
    for side in (-1, 1):
        knee = (0.14 * side, 0.62 + 0.1 * swing * side)
        foot = (0.12 * side, 0.26 + 0.14 * swing * side)
        figure.limb((0.1 * side, 0.95), knee, 0.17, 0.14, trousers)
        figure.limb(knee, foot, 0.13, 0.1, trousers * 0.9)
        figure.limb(foot, (foot[0] * 1.1, foot[1] - 0.04), 0.1, 0.12, (26, 24, 24))
        figure.limb((0.2 * side, 1.42), (0.25 * side, 1.03), 0.11, 0.09, coat * 0.85)
    figure.limb((0.0, 1.46), (0.0, 0.95), 0.4, 0.32, coat)
    if towards:
        figure.disc((0.0, 0.85), 0.03, (235, 235, 220))
    else:
        figure.disc((0.0, 0.8), 0.03, (200, 30, 30))
    helmet = _pick(rng, CLOTHES) * 1.2
    _head(figure, skin, helmet, 1.62, towards)
    return figure.finished(rng, light)


class _Figure:
    """An image with alpha in metres: x from the middle, y up from the ground."""

    def __init__(self, width_m: float, height_m: float) -> None:
        shape = (round(height_m * PIXELS_PER_M), round(width_m * PIXELS_PER_M), 4)
        self.image = np.zeros(shape, np.uint8)

    def limb(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        start_width: float,
        end_width: float,
        colour: Array | Colour,
    ) -> None:
        """Draw a tapered piece with rounded ends."""
        a, b = self._place(start), self._place(end)
        along = (b - a) / (np.hypot(*(b - a)) + 1e-6)
        normal = np.array((-along[1], along[0]))
        wide, narrow = start_width * PIXELS_PER_M / 2, end_width * PIXELS_PER_M / 2
        points = np.stack(
            (a + normal * wide, b + normal * narrow, b - normal * narrow, a - normal * wide)
        )
        paint = _paint(colour)
        cv2.fillConvexPoly(self.image, np.round(points * 16).astype(np.int32), paint, 8, 4)
        for point, radius in ((a, wide), (b, narrow)):
            centre = (round(point[0]), round(point[1]))
            cv2.circle(self.image, centre, max(1, round(radius * 0.8)), paint, -1)

    def disc(self, centre: tuple[float, float], radius: float, colour: Array | Colour) -> None:
        self.oval(centre, (radius, radius), colour)

    def oval(
        self,
        centre: tuple[float, float],
        radii: tuple[float, float],
        colour: Array | Colour,
        arc: tuple[float, float] = (0, 360),
    ) -> None:
        point = self._place(centre)
        axes = (max(1, round(radii[0] * PIXELS_PER_M)), max(1, round(radii[1] * PIXELS_PER_M)))
        place = (round(point[0]), round(point[1]))
        cv2.ellipse(self.image, place, axes, 0, arc[0], arc[1], _paint(colour), -1)

    def finished(self, rng: Rng, light: Light) -> Array:
        """Add rounded shading from the sun's side, folds of cloth and soft edges."""
        height, width = self.image.shape[:2]
        alpha = blurred(self.image[..., 3], 0.8)
        inside = blurred(self.image[..., 3].astype(np.float32) / 255, 5.0)
        slope = cv2.Sobel(inside, cv2.CV_32F, 1, 0, ksize=3)
        folds = 0.1 * noise_patch(rng, height, width, 1.2) + 0.05 * noise_patch(
            rng, height, width, 0.3
        )
        shade = 0.72 + 0.38 * inside - 0.9 * light.sun * light.side * slope + folds
        tint = light.shade + 0.5 * light.sun * (light.sunlit - light.shade)
        colour = self.image[..., :3] * shade[..., None] * tint
        colour = blurred(colour.astype(np.float32), 0.6)
        share = alpha[..., None].astype(np.float32) / 255
        return np.dstack((to_uint8(np.clip(colour, 0, 255) * share), alpha))

    def _place(self, point: tuple[float, float]) -> Array:
        height, width = self.image.shape[:2]
        return np.array((width / 2 + point[0] * PIXELS_PER_M, height - point[1] * PIXELS_PER_M))


def _head(figure: _Figure, skin: Array, hair: Array, height: float, towards: bool) -> None:
    figure.limb((0.0, height - 0.08), (0.0, height - 0.2), 0.11, 0.12, skin * 0.85)
    figure.oval((0.0, height), (0.088, 0.12), skin)
    if towards:
        figure.oval((0.0, height + 0.03), (0.094, 0.11), hair, (180, 360))
    else:
        figure.oval((0.0, height + 0.015), (0.094, 0.125), hair)


def _pick(rng: Rng, palette: tuple[Colour, ...]) -> Array:
    return np.array(palette[rng.integers(len(palette))]) * rng.uniform(0.8, 1.2)


def _paint(colour: Array | Colour) -> tuple[float, float, float, float]:
    red, green, blue = (float(np.clip(part, 0, 255)) for part in colour)
    return red, green, blue, 255.0
