"""What stands along a street, as images with alpha: signs, lights, posts, fences and plants."""

from __future__ import annotations

import cv2
import numpy as np

from unirestore_ros.synthetic.frame import POLE, SIGN
from unirestore_ros.synthetic.noise import (
    Array,
    Rng,
    blurred,
    generator,
    noise_patch,
    palette,
    to_uint8,
)
from unirestore_ros.synthetic.sky import Light

PIXELS_PER_M = 64


def make_sign(seed: int, number: int, light: Light) -> tuple[Array, Array]:
    """Draw a plate on a pole, 1 m by 3 m: premultiplied RGBA and its label map."""
    rng = generator(seed, "sign", number)
    image, labels = _post(rng, 1.0, 3.0, 0.07)
    kind = int(rng.integers(5))
    middle = PIXELS_PER_M // 2
    red, blue, white = (170, 30, 34, 255), (34, 70, 150, 255), (232, 232, 228, 255)
    plate = np.zeros_like(image)
    if kind == 0:
        cv2.circle(plate, (middle, middle), 24, red, -1, cv2.LINE_AA)
        cv2.circle(plate, (middle, middle), 17, white, -1, cv2.LINE_AA)
        _number(plate, middle)
    elif kind == 1:
        corners = np.array(((middle, 6), (middle + 28, 56), (middle - 28, 56)), np.int32)
        cv2.fillConvexPoly(plate, corners, red, cv2.LINE_AA)
        inner = np.array(((middle, 19), (middle + 17, 49), (middle - 17, 49)), np.int32)
        cv2.fillConvexPoly(plate, inner, white, cv2.LINE_AA)
        cv2.line(plate, (middle, 28), (middle, 43), (20, 20, 20, 255), 4)
    elif kind == 2:
        cv2.circle(plate, (middle, middle), 24, blue, -1, cv2.LINE_AA)
        cv2.arrowedLine(plate, (middle - 12, middle - 12), (middle + 10, middle + 10), white, 4)
    elif kind == 3:
        cv2.rectangle(
            plate, (4, 10), (60, 54), blue if rng.random() < 0.5 else (30, 90, 60, 255), -1
        )
        for row in range(17, 50, 11):
            cv2.line(plate, (10, row), (int(rng.integers(30, 55)), row), white, 4)
    else:
        cv2.rectangle(plate, (6, 4), (58, 58), (206, 150, 30, 255), -1)
        cv2.rectangle(plate, (11, 9), (53, 53), (30, 30, 30, 255), 3)
        cv2.line(plate, (16, 44), (48, 20), (30, 30, 30, 255), 5)
    return _with_plate(image, labels, plate, rng, light)


def _number(plate: Array, middle: int) -> None:
    """Draw a speed limit, on the colours alone: OpenCV 5 blends letters into alpha as well."""
    colours = np.ascontiguousarray(plate[..., :3])
    place = (middle - 14, middle + 7)
    cv2.putText(colours, "30", place, cv2.FONT_HERSHEY_SIMPLEX, 0.62, (20, 20, 20), 2, cv2.LINE_AA)
    plate[..., :3] = colours


def make_traffic_light(seed: int, number: int, light: Light) -> tuple[Array, Array]:
    """Draw three lamps on a pole, 1 m by 3.4 m: premultiplied RGBA and its label map."""
    rng = generator(seed, "traffic light", number)
    image, labels = _post(rng, 1.0, 3.4, 0.1)
    plate = np.zeros_like(image)
    cv2.rectangle(plate, (18, 2), (46, 68), (22, 22, 24, 255), -1)
    lit = int(rng.integers(3))
    colours = ((220, 50, 40), (230, 170, 40), (60, 220, 140))
    for lamp, colour in enumerate(colours):
        strength = 1.0 if lamp == lit else 0.2
        tone = (*(strength * part for part in colour), 255.0)
        cv2.circle(plate, (32, 14 + 21 * lamp), 8, tone, -1, cv2.LINE_AA)
    return _with_plate(image, labels, plate, rng, light)


def make_lamp_post(seed: int, light: Light) -> Array:
    """Draw a street lamp 8 m high and 2 m wide, premultiplied RGBA, its arm to the right."""
    rng = generator(seed, "lamp")
    image, _ = _post(rng, 2.0, 8.0, 0.13)
    tone = (*image[-2, PIXELS_PER_M, :3].tolist(), 255)
    cv2.line(image, (64, 20), (116, 8), tone, 5, cv2.LINE_AA)
    cv2.ellipse(image, (112, 10), (14, 5), -10, 0, 360, (200, 200, 196, 255), -1)
    return _premultiplied(image, light.on_wall(0.0))


def make_pole(seed: int, light: Light) -> Array:
    """Draw a bollard or post, 0.3 m by 1.1 m, premultiplied RGBA."""
    rng = generator(seed, "pole")
    image, _ = _post(rng, 0.3, 1.1, 0.14)
    image[6:14, :, :3] = np.where(image[6:14, :, 3:] > 0, 190, 0)
    return _premultiplied(image, light.on_wall(0.0))


def make_railing(rng: Rng, light: Light, facing: float) -> Array:
    """Draw 8 m of railings or board fence, 1.2 m high, at 40 px/m, premultiplied RGBA."""
    height, width = 48, 320
    image = np.zeros((height, width, 4), np.uint8)
    if rng.random() < 0.55:
        iron = (*(rng.uniform(20, 70) * rng.uniform(0.9, 1.1, 3)), 255.0)
        for x in range(0, width, 5):
            cv2.line(image, (x, 2), (x, height), iron, 1 if x % 80 else 4)
        cv2.line(image, (0, 6), (width, 6), iron, 2)
        cv2.line(image, (0, height - 6), (width, height - 6), iron, 2)
    else:
        tone = np.array((120, 92, 64)) * rng.uniform(0.6, 1.4)
        boards = rng.normal(1, 0.12, width // 6 + 1)[np.arange(width) // 6]
        grain = 1 + 0.1 * noise_patch(rng, height, width, 0.5)
        image[..., :3] = to_uint8(grain[..., None] * boards[None, :, None] * tone)
        image[:, ::6, :3] //= 2
        image[4:, :, 3] = 255
    return _premultiplied(image, light.on_wall(facing))


def _post(rng: Rng, width_m: float, height_m: float, thickness_m: float) -> tuple[Array, Array]:
    """Draw a round post in the middle, lit from one side, and its label map."""
    shape = (round(height_m * PIXELS_PER_M), round(width_m * PIXELS_PER_M))
    image = np.zeros((*shape, 4), np.uint8)
    half = max(2, round(thickness_m * PIXELS_PER_M / 2))
    middle = shape[1] // 2
    across = np.linspace(-1, 1, 2 * half)
    tone = rng.uniform(60, 150) * (0.75 + 0.35 * np.cos((across - 0.4) * 1.6))
    image[:, middle - half : middle + half, :3] = to_uint8(tone)[None, :, None]
    image[:, middle - half : middle + half, 3] = 255
    return image, np.full(shape, POLE, np.uint8)


def _with_plate(
    image: Array, labels: Array, plate: Array, rng: Rng, light: Light
) -> tuple[Array, Array]:
    share = plate[..., 3:].astype(np.float32) / 255
    dirt = 1 + 0.05 * noise_patch(rng, plate.shape[0], plate.shape[1], 1.0)[..., None]
    colour = plate[..., :3] * dirt + image[..., :3] * (1 - share)
    image[..., :3] = to_uint8(colour)
    image[..., 3] = np.maximum(image[..., 3], plate[..., 3])
    labels[plate[..., 3] > 127] = SIGN
    return _premultiplied(image, light.on_wall(0.0)), labels


def _premultiplied(image: Array, light: Array | float = 1.0) -> Array:
    """Multiply the colours of an RGBA image by its alpha and by light, in place."""
    share = image[..., 3:].astype(np.float32) / 255
    image[..., :3] = to_uint8(image[..., :3] * share * light)
    return image


TREE_PIXELS = 576
LEAF_COLOURS = palette("465c26 5c6c2c 3a502a 686230 50683c")
AUTUMN_COLOURS = palette("966028 8c6e30 784826")
BARK = (74, 64, 54)


def make_tree(seed: int, number: int, light: Light, bare: bool, autumn: bool) -> Array:
    """Draw a tree, premultiplied RGBA uint8, TREE_PIXELS square: a trunk in the middle of the lower
    edge."""
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
        return _soft_edged(skeleton)
    colours = AUTUMN_COLOURS if autumn else LEAF_COLOURS
    colour = np.array(colours[rng.integers(len(colours))]) * rng.uniform(0.8, 1.15)
    return _soft_edged(_leafed(skeleton, rng, tips, colour, light))


def make_hedge(rng: Rng, light: Light, facing: float) -> Array:
    """Draw a hedge, premultiplied RGBA, 8 m by 1.6 m at 40 px/m, with an uneven upper edge."""
    height, width = 64, 320
    fine, coarse = noise_patch(rng, height, width, 0.5), noise_patch(rng, height, width, 1.2)
    colour = np.array(LEAF_COLOURS[rng.integers(len(LEAF_COLOURS))]) * light.on_wall(facing)
    rows = np.linspace(1.15, 0.55, height)[:, None]
    shade = (rows + 0.28 * fine + 0.15 * coarse)[..., None]
    edge = 9 + 3.0 * coarse[height // 2] + 2.0 * fine[0]
    alpha = np.arange(height)[:, None] > edge + 2 * fine
    return _soft_edged(np.dstack((to_uint8(colour * shade), alpha * np.uint8(255))))


def _grow(
    image: Array,
    rng: Rng,
    start: tuple[float, float],
    angle: float,
    length: float,
    thickness: float,
    depth: int,
    tips: list[tuple[float, float]],
) -> None:
    """Draw a branch and what grows from it; ends of branches are added to ``tips``."""
    end = (start[0] + length * np.cos(angle), start[1] + length * np.sin(angle))
    grey = float(rng.uniform(0.8, 1.2))
    colour = (*(grey * part for part in BARK), 255.0)
    points = [(round(point[0] * 16), round(point[1] * 16)) for point in (start, end)]
    width = max(1, round(thickness))
    cv2.line(image, points[0], points[1], colour, width, cv2.LINE_8, 4)
    if depth <= 3:
        tips.append(end)
    if depth == 0:
        return
    for _ in range(int(rng.integers(2, 4)) if depth < 8 else 3):
        turn = rng.normal(0, 0.5) - 0.12 * np.cos(angle) * (depth < 4)
        _grow(
            image,
            rng,
            end,
            angle + turn,
            length * rng.uniform(0.66, 0.86),
            thickness * rng.uniform(0.55, 0.72),
            depth - 1,
            tips,
        )


def _leafed(
    skeleton: Array, rng: Rng, tips: list[tuple[float, float]], colour: Array, light: Light
) -> Array:
    """Paint some thousand leaf clumps over the skeleton, from dark to light."""
    image = skeleton.copy()
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
        cv2.ellipse(image, tuple(centre), tuple(axes), angle, 0, 360, (*tone, 255.0), -1)
    grain = 1 + 0.16 * noise_patch(rng, TREE_PIXELS, TREE_PIXELS, 0.3)[..., None]
    image[..., :3] = to_uint8(image[..., :3] * grain)
    return image


def _soft_edged(image: Array) -> Array:
    image = image.copy()
    image[..., 3] = to_uint8(blurred(image[..., 3], 0.6).astype(np.float32))
    return _premultiplied(image)
