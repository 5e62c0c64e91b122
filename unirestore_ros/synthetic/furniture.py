"""Signs, traffic lights, lamp posts, poles and railings: small pictures with alpha and labels."""

from __future__ import annotations

import cv2
import numpy as np

from unirestore_ros.synthetic.frame import POLE, SIGN
from unirestore_ros.synthetic.light import Light
from unirestore_ros.synthetic.noise import generator, noise_patch, to_uint8

PIXELS_PER_M = 64


def make_sign(seed: int, number: int, light: Light) -> tuple[np.ndarray, np.ndarray]:
    """A plate on a pole, 1 m by 3 m: premultiplied RGBA and its label map."""
    rng = generator(seed, "sign", number)
    picture, labels = _post(rng, 1.0, 3.0, 0.07)
    kind = int(rng.integers(5))
    middle = PIXELS_PER_M // 2
    red, blue, white = (170, 30, 34, 255), (34, 70, 150, 255), (232, 232, 228, 255)
    plate = np.zeros_like(picture)
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
    return _with_plate(picture, labels, plate, rng, light)


def _number(plate: np.ndarray, middle: int) -> None:
    """A speed limit; drawn on the colours alone, for OpenCV 5 blends letters into alpha as well."""
    colours = np.ascontiguousarray(plate[..., :3])
    place = (middle - 14, middle + 7)
    cv2.putText(colours, "30", place, cv2.FONT_HERSHEY_SIMPLEX, 0.62, (20, 20, 20), 2, cv2.LINE_AA)
    plate[..., :3] = colours


def make_traffic_light(seed: int, number: int, light: Light) -> tuple[np.ndarray, np.ndarray]:
    """Three lamps on a pole, 1 m by 3.4 m."""
    rng = generator(seed, "traffic light", number)
    picture, labels = _post(rng, 1.0, 3.4, 0.1)
    plate = np.zeros_like(picture)
    cv2.rectangle(plate, (18, 2), (46, 68), (22, 22, 24, 255), -1)
    lit = int(rng.integers(3))
    colours = ((220, 50, 40), (230, 170, 40), (60, 220, 140))
    for lamp, colour in enumerate(colours):
        strength = 1.0 if lamp == lit else 0.2
        tone = (*(strength * part for part in colour), 255.0)
        cv2.circle(plate, (32, 14 + 21 * lamp), 8, tone, -1, cv2.LINE_AA)
    return _with_plate(picture, labels, plate, rng, light)


def make_lamp_post(seed: int, light: Light) -> np.ndarray:
    """A street lamp 8 m high and 2 m wide, its arm to the right."""
    rng = generator(seed, "lamp")
    picture, _ = _post(rng, 2.0, 8.0, 0.13)
    tone = (*picture[-2, PIXELS_PER_M, :3].tolist(), 255)
    cv2.line(picture, (64, 20), (116, 8), tone, 5, cv2.LINE_AA)
    cv2.ellipse(picture, (112, 10), (14, 5), -10, 0, 360, (200, 200, 196, 255), -1)
    return _premultiplied(picture, light)


def make_pole(seed: int, light: Light) -> np.ndarray:
    """A bollard or post, 0.3 m by 1.1 m."""
    rng = generator(seed, "pole")
    picture, _ = _post(rng, 0.3, 1.1, 0.14)
    picture[6:14, :, :3] = np.where(picture[6:14, :, 3:] > 0, 190, 0)
    return _premultiplied(picture, light)


def make_railing(rng: np.random.Generator, light: Light, facing: float) -> np.ndarray:
    """Premultiplied RGBA of 8 m of railings or board fence, 1.2 m high, at 40 px/m."""
    height, width = 48, 320
    picture = np.zeros((height, width, 4), np.uint8)
    if rng.random() < 0.55:
        iron = (*(rng.uniform(20, 70) * rng.uniform(0.9, 1.1, 3)), 255.0)
        for x in range(0, width, 5):
            cv2.line(picture, (x, 2), (x, height), iron, 1 if x % 80 else 4)
        cv2.line(picture, (0, 6), (width, 6), iron, 2)
        cv2.line(picture, (0, height - 6), (width, height - 6), iron, 2)
    else:
        tone = np.array((120, 92, 64)) * rng.uniform(0.6, 1.4)
        boards = rng.normal(1, 0.12, width // 6 + 1)[np.arange(width) // 6]
        grain = 1 + 0.1 * noise_patch(rng, height, width, 0.5)
        picture[..., :3] = to_uint8(grain[..., None] * boards[None, :, None] * tone)
        picture[:, ::6, :3] //= 2
        picture[4:, :, 3] = 255
    shade = light.on_wall(facing)
    share = picture[..., 3:].astype(np.float32) / 255
    picture[..., :3] = to_uint8(picture[..., :3] * share * shade)
    return picture


def _post(
    rng: np.random.Generator, width_m: float, height_m: float, thickness_m: float
) -> tuple[np.ndarray, np.ndarray]:
    """A round post in the middle, lit from one side, and its label map."""
    shape = (round(height_m * PIXELS_PER_M), round(width_m * PIXELS_PER_M))
    picture = np.zeros((*shape, 4), np.uint8)
    half = max(2, round(thickness_m * PIXELS_PER_M / 2))
    middle = shape[1] // 2
    across = np.linspace(-1, 1, 2 * half)
    tone = rng.uniform(60, 150) * (0.75 + 0.35 * np.cos((across - 0.4) * 1.6))
    picture[:, middle - half : middle + half, :3] = to_uint8(tone)[None, :, None]
    picture[:, middle - half : middle + half, 3] = 255
    return picture, np.full(shape, POLE, np.uint8)


def _with_plate(
    picture: np.ndarray,
    labels: np.ndarray,
    plate: np.ndarray,
    rng: np.random.Generator,
    light: Light,
) -> tuple[np.ndarray, np.ndarray]:
    share = plate[..., 3:].astype(np.float32) / 255
    dirt = 1 + 0.05 * noise_patch(rng, plate.shape[0], plate.shape[1], 1.0)[..., None]
    colour = plate[..., :3] * dirt + picture[..., :3] * (1 - share)
    picture[..., :3] = to_uint8(colour)
    picture[..., 3] = np.maximum(picture[..., 3], plate[..., 3])
    labels[plate[..., 3] > 127] = SIGN
    return _premultiplied(picture, light), labels


def _premultiplied(picture: np.ndarray, light: Light) -> np.ndarray:
    share = picture[..., 3:].astype(np.float32) / 255
    picture[..., :3] = to_uint8(picture[..., :3] * share * light.on_wall(0.0))
    return picture
