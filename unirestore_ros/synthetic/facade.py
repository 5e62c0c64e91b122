"""Fronts of buildings: brick, render, stone or concrete, with windows, shops and weathering."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from unirestore_ros.synthetic.noise import (
    Array,
    Rng,
    blurred,
    generator,
    noise_patch,
    palette,
    to_uint8,
)

PIXELS_PER_M = 40

BRICKS = palette("805848 926e58 a68e70 766054 b09c7e")
RENDERS = palette("d6d0c4 c4baa4 ded6be b6b0ac ceb296 acbec8 e2e0de")
STONES = palette("b0a48e 9e968a beb49e")
CONCRETES = palette("969694 808284 a8a49e")
ROOFS = palette("564e4c 78483a 605c5a 4a4c54")
SIGN_COLOURS = palette("24346e 8c1e22 184e34 e4ded0 1e1e20")


@dataclass(frozen=True)
class FacadeStyle:
    """material: brick, render, stone or concrete; colours are RGB 0 to 255."""

    material: str
    colour: tuple[int, int, int]
    frame: float
    storey_m: float
    window_m: tuple[float, float]
    spacing_m: float
    shop: bool
    curtain: float


def make_style(seed: int, kind: str, number: int) -> FacadeStyle:
    """Make a house style; kind: shops, terrace, houses or office."""
    rng = generator(seed, "style", kind, number)
    materials = {
        "shops": ("brick", "render", "stone", "brick"),
        "terrace": ("brick", "brick", "render"),
        "houses": ("brick", "render"),
        "office": ("concrete", "stone", "brick"),
    }[kind]
    material = str(rng.choice(materials))
    palette = {"brick": BRICKS, "render": RENDERS, "stone": STONES, "concrete": CONCRETES}[material]
    office = kind == "office"
    return FacadeStyle(
        material=material,
        colour=palette[rng.integers(len(palette))],
        frame=float(rng.choice((0.25, 0.9, 0.95))),
        storey_m=float(rng.uniform(2.9, 3.5)),
        window_m=(
            float(rng.uniform(1.4, 2.2) if office else rng.uniform(0.85, 1.3)),
            float(rng.uniform(1.4, 1.9)),
        ),
        spacing_m=float(rng.choice((2.0, 2.6667)) if not office else 2.6667),
        shop=kind == "shops" or (office and rng.random() < 0.5),
        curtain=float(rng.uniform(0.0, 0.5)),
    )


def make_facade(rng: Rng, style: FacadeStyle, width_m: float, storeys: int, light: Array) -> Array:
    """Draw a front, RGB uint8, at PIXELS_PER_M, storeys * storey_m + 0.5 m high."""
    height = round((storeys * style.storey_m + 0.5) * PIXELS_PER_M)
    wall = make_wall(rng, style.material, style.colour, height, round(width_m * PIXELS_PER_M))
    _weather(wall, rng)
    for storey in range(storeys):
        bottom = height - round(storey * style.storey_m * PIXELS_PER_M)
        if storey == 0 and style.shop:
            _shop(wall, rng, bottom, round(style.storey_m * PIXELS_PER_M))
        else:
            _storey(wall, rng, style, bottom, door=storey == 0)
    _cornice(wall, rng)
    if rng.random() < 0.7:
        _drainpipe(wall, rng)
    wall *= light.astype(np.float32)
    return to_uint8(blurred(wall, 0.5))


def make_wall(
    rng: Rng, material: str, colour: tuple[int, int, int], height: int, width: int
) -> Array:
    """Draw a bare wall, float32 (H,W,3)."""
    base: Array = np.full((height, width), 1.0, np.float32)
    if material in ("brick", "stone"):
        course, length = (3, 9) if material == "brick" else (14, 26)
        tones = rng.normal(1.0, 0.085 if material == "brick" else 0.06, (400, 200))
        rows = np.arange(height)[:, None] // course
        columns = (np.arange(width)[None, :] + (rows % 2) * (length // 2)) // length
        base = tones[rows % 400, columns % 200].astype(np.float32)
        joint = (np.arange(height)[:, None] % course == 0) | (
            (np.arange(width)[None, :] + (rows % 2) * (length // 2)) % length == 0
        )
        base = np.where(joint, np.float32(1.10 if material == "brick" else 0.86), base)
    elif material == "concrete":
        base[:: 2 * PIXELS_PER_M] = 0.7
        base[:, :: 2 * PIXELS_PER_M] = 0.7
    base = base * (1 + 0.035 * noise_patch(rng, height, width, 0.4))
    return base[..., None] * np.array(colour, np.float32)


def make_roof(rng: Rng, width_m: float, light: Array) -> Array:
    """Draw a tiled roof, RGB uint8, 4 m from ridge to eave."""
    height, width = 4 * PIXELS_PER_M, round(width_m * PIXELS_PER_M)
    tones = rng.normal(1.0, 0.09, (64, 256))
    rows, columns = np.arange(height)[:, None] // 8, np.arange(width)[None, :] // 8
    tile = tones[rows % 64, columns % 256] * (0.8 + 0.05 * (np.arange(height)[:, None] % 8))
    tile = tile * (1 + 0.1 * noise_patch(rng, height, width, 1.0))
    colour = np.array(ROOFS[rng.integers(len(ROOFS))]) * light
    return to_uint8(tile[..., None] * colour)


def make_gable(rng: Rng, style: FacadeStyle, wall_m: float, roof_m: float, light: Array) -> Array:
    """Draw a side wall 9 m deep, premultiplied RGBA, with its triangle under the roof."""
    width, top = 9 * PIXELS_PER_M, round(roof_m * PIXELS_PER_M)
    height = top + round(wall_m * PIXELS_PER_M)
    wall = make_wall(rng, style.material, style.colour, height, width)
    _weather(wall, rng)
    if rng.random() < 0.5:
        x = int(rng.integers(width // 4, width // 2))
        y = int(rng.integers(top + 20, height - 80)) if height - 80 > top + 20 else top + 20
        _window(wall, rng, style, x, y, round(0.9 * PIXELS_PER_M), round(1.3 * PIXELS_PER_M))
    alpha = np.full((height, width), 255, np.uint8)
    if top > 0:
        alpha[:top] = 0
        triangle = np.array(((0, top), (width // 2, 0), (width, top)), np.int32)
        cv2.fillConvexPoly(alpha, triangle, 255)
    image = to_uint8(wall * light)
    image[alpha == 0] = 0
    return np.dstack((image, alpha))


def _weather(wall: Array, rng: Rng) -> None:
    """Add large stains, streaks that run down, and dirt near the ground."""
    height, width = wall.shape[:2]
    stains = noise_patch(rng, height, width, 1.3)
    streaks = cv2.resize(
        rng.standard_normal((4, width)).astype(np.float32),
        (width, height),
        interpolation=cv2.INTER_CUBIC,
    )
    ground = np.linspace(1.0, 0.0, height, dtype=np.float32)[::-1, None] ** 8
    wall *= (1 + 0.06 * stains + 0.025 * streaks - 0.18 * ground)[..., None]


def _storey(wall: Array, rng: Rng, style: FacadeStyle, bottom: int, door: bool) -> None:
    spacing = style.spacing_m * PIXELS_PER_M
    count = max(1, int(wall.shape[1] // spacing))
    width, height = (round(side * PIXELS_PER_M) for side in style.window_m)
    door_at = int(rng.integers(count)) if door else -1
    for index in range(count):
        x = round((index + 0.5) * spacing - width / 2)
        if index % 4 == door_at % 4 and door:
            _door(wall, rng, x, bottom, round(1.0 * PIXELS_PER_M), round(2.2 * PIXELS_PER_M))
        else:
            y = bottom - round(0.9 * PIXELS_PER_M) - height
            _window(wall, rng, style, x, y, width, height)


def _window(
    wall: Array, rng: Rng, style: FacadeStyle, x: int, y: int, width: int, height: int
) -> None:
    """Draw glass that mirrors some sky, curtains, a frame with bars, a lintel and a sill."""
    if y < 4 or x < 3 or x + width + 3 > wall.shape[1] or y + height + 4 > wall.shape[0]:
        return
    surround = wall[y - 4 : y, x - 2 : x + width + 2]
    surround *= np.float32(rng.choice((1.12, 0.8)))
    wall[y + height : y + height + 3, x - 3 : x + width + 3] = np.float32(205 * style.frame + 30)
    glass = _glass(rng, width, height)
    if rng.random() < style.curtain:
        side = max(2, width // 4)
        tone = np.array((190, 184, 170), np.float32) * rng.uniform(0.5, 0.9)
        glass[:, :side] = tone
        glass[:, -side:] = tone
    glass[:3] *= np.float32(0.55)
    bar = np.float32(235 * style.frame)
    glass[:2], glass[-2:], glass[:, :2], glass[:, -2:] = bar, bar, bar, bar
    glass[height // 2 : height // 2 + 2] = bar
    glass[:, width // 2 : width // 2 + 1] = bar
    wall[y : y + height, x : x + width] = glass


def _glass(rng: Rng, width: int, height: int) -> Array:
    """Draw dark panes with a soft reflection of sky and of what stands opposite."""
    dark = rng.uniform(30, 66)
    sky = rng.uniform(20, 110) if rng.random() < 0.6 else rng.uniform(0, 20)
    cut = rng.uniform(0.2, 0.9) + 0.12 * np.sin(np.arange(width) / width * rng.uniform(2, 9))
    rows = np.arange(height)[:, None] / height
    share = 1 / (1 + np.exp((rows - cut[None, :]) * 14))
    tone = dark + sky * share + 6 * noise_patch(rng, height, width, 1.0)
    return (tone[..., None] * np.array((0.92, 1.0, 1.08))).astype(np.float32)


def _door(wall: Array, rng: Rng, x: int, bottom: int, width: int, height: int) -> None:
    top = bottom - height
    if top < 0 or x < 2 or x + width + 2 > wall.shape[1]:
        return
    wall[top - 3 : bottom, x - 3 : x + width + 3] = np.float32(rng.uniform(90, 220))
    colour = np.array(SIGN_COLOURS[rng.integers(len(SIGN_COLOURS))], np.float32)
    panel = colour * rng.uniform(0.7, 1.1)
    grain = 1 + 0.06 * noise_patch(rng, bottom - top, width, 0.8)[..., None]
    wall[top:bottom, x : x + width] = panel * grain
    wall[top + 3 : top + 14, x + 3 : x + width - 3] = 40


def _shop(wall: Array, rng: Rng, bottom: int, height: int) -> None:
    """Draw shops 4 to 8 m wide: a fascia with lettering, display windows, a door."""
    x, width = 0, wall.shape[1]
    while width - x > 2 * PIXELS_PER_M:
        span = min(int(rng.integers(4, 9)) * PIXELS_PER_M, width - x)
        colour = np.array(SIGN_COLOURS[rng.integers(len(SIGN_COLOURS))], np.float32)
        wall[bottom - height + 6 : bottom, x : x + span] = colour * rng.uniform(0.5, 0.9)
        fascia = wall[
            bottom - height + 6 : bottom - height + 6 + PIXELS_PER_M * 7 // 10, x : x + span
        ]
        fascia[...] = colour * rng.uniform(0.8, 1.1)
        _lettering(fascia, rng, dark=float(colour.mean()) > 120)
        glass = wall[bottom - height + 38 : bottom - 14, x + 6 : x + span - 6]
        glass[...] = _glass(rng, glass.shape[1], glass.shape[0])
        _display(glass, rng)
        for bar in range(0, glass.shape[1], int(rng.integers(50, 90))):
            glass[:, bar : bar + 3] = colour * 0.8
        x += span


def _lettering(fascia: Array, rng: Rng, dark: bool) -> None:
    tone = np.float32(30 if dark else 225)
    x = int(rng.integers(8, 30))
    end = fascia.shape[1] - int(rng.integers(10, 40))
    while x < end:
        width = int(rng.integers(3, 9))
        if rng.random() < 0.85:
            top = int(rng.integers(7, 11))
            fascia[top:20, x : x + 2] = tone
            row = int(rng.integers(top, 18))
            fascia[row : row + 2, x : x + width] = tone
        x += width + 3


def _display(glass: Array, rng: Rng) -> None:
    """Draw goods, posters and lamps behind the pane."""
    height, width = glass.shape[:2]
    for _ in range(width // 14):
        x, y = int(rng.integers(0, width)), int(rng.integers(height // 4, height))
        w, h = int(rng.integers(4, 24)), int(rng.integers(4, 26))
        tone = rng.uniform(20, 170) * rng.uniform(0.6, 1.2, 3).astype(np.float32)
        patch = glass[y : y + h, x : x + w]
        patch += (tone - patch) * np.float32(0.6)


def _cornice(wall: Array, rng: Rng) -> None:
    wall[:6] *= np.float32(rng.uniform(1.05, 1.25))
    wall[6:9] *= np.float32(0.6)
    wall[9:16] *= np.float32(0.85)


def _drainpipe(wall: Array, rng: Rng) -> None:
    x = int(rng.integers(4, wall.shape[1] - 8))
    tone = np.float32(rng.choice((35.0, 90.0, 190.0)))
    wall[8:, x : x + 2] = tone
    wall[8:, x + 2 : x + 4] = tone * np.float32(0.6)
