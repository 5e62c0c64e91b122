"""The ground: road, markings, kerbs, pavements and grass, in perspective row by row.

A row of the image below the horizon lies at one distance, so the ground is two textures: a cross
section (colour against metres sideways, in copies blurred more and more for rows farther away) and
a grey grain that is anchored to the world (a ripmap, each row taking the copy that fits it).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from unirestore_ros.synthetic.canvas import SUPERSAMPLE, Camera, Texture
from unirestore_ros.synthetic.frame import PAVEMENT, ROAD, TREE
from unirestore_ros.synthetic.noise import (
    STRIP_ROWS,
    Array,
    Rng,
    generator,
    noise_strip,
    texture_noise,
    to_uint8,
)
from unirestore_ros.synthetic.sky import Light

HALF_WIDTH_M = 20.0
SECTION_PER_M = 64
GRAIN_PER_M = 64
GRAIN_LENGTH_M = STRIP_ROWS / GRAIN_PER_M
FINE_PER_M = 160
KERB_M = 0.14
LINE_M = 0.12


@dataclass(frozen=True)
class Street:
    """Cross section of the street; metres."""

    lanes: int  # each way
    lane: float
    parking: float
    pavement: float
    left_hand: bool

    @property
    def road_edge(self) -> float:
        return self.lanes * self.lane + self.parking

    @property
    def pavement_edge(self) -> float:
        return self.road_edge + self.pavement


class Ground:
    """Paints the ground of one drive."""

    def __init__(self, seed: int, street: Street, light: Light) -> None:
        rng = generator(seed, "ground")
        self._street = street
        self._light = light
        self._dash_m = (float(rng.choice((2.0, 3.0, 4.0))), float(rng.choice((8.0, 9.0))))
        plain, dashed = _sections(rng, street, light)
        self._sections = (_blurred_copies(plain), _blurred_copies(dashed))
        self._labels = _section_labels(street)
        self._grain = Texture(_grain(rng, street))
        self._fine = to_uint8(128 + 6.5 * texture_noise(rng, 512, 512, 0.45))
        self._patches = to_uint8(128 + 9 * texture_noise(rng, 256, 256, 1.3))

    def paint(self, image: Array, camera: Camera, shade: Array | None) -> None:
        """Fill the rows below the horizon. shade: (rows, columns) in [0, 1] from ``rows``' frame,
        1 where the sun is hidden; at half size."""
        height, width = image.shape[:2]
        first = self.first_row(camera)
        view = _View.below_horizon(camera, first, height, width)
        colour = self._colour(view)
        grain = self._grain_at(view)
        cv2.multiply(colour, cv2.cvtColor(grain, cv2.COLOR_GRAY2RGB), colour, scale=1 / 128)
        if shade is not None:
            dark = self._light.shade / self._light.on_wall(self._light.side * 0.8)
            share = cv2.resize(shade, (width, height - first), interpolation=cv2.INTER_LINEAR)
            factor = 1 + share[..., None] * (dark.astype(np.float32) - 1)
            colour = to_uint8(colour * factor)
        image[first:] = colour

    def first_row(self, camera: Camera) -> int:
        """Find the first image row below the horizon, in whole frame pixels."""
        return (int(np.floor(camera.horizon / SUPERSAMPLE)) + 1) * SUPERSAMPLE

    def labels_at(self, x: Array) -> Array:
        index = ((x + HALF_WIDTH_M) * 20).astype(np.int32)
        return self._labels[np.clip(index, 0, len(self._labels) - 1)]

    def _colour(self, view: _View) -> Array:
        level = np.log2(np.maximum(view.metres_across * SECTION_PER_M, 1.0))
        plain = _section_rows(self._sections[0], view, level)
        painted, period = self._dash_m
        share = _dash_share(view.s, view.metres_along, painted, period)
        rows = np.flatnonzero(share > 0.004)
        if len(rows):
            part = view.only(rows)
            dashed = _section_rows(self._sections[1], part, level[rows])
            weight = share[rows].astype(np.float32)[:, None, None]
            plain[rows] = to_uint8(plain[rows] * (1 - weight) + dashed * weight)
        return plain

    def _grain_at(self, view: _View) -> Array:
        grain = _grain_rows(self._grain, view)
        near = int(np.searchsorted(-view.metres_along, -0.10))  # rows nearer than this want detail
        if near < len(view.s):
            part = view.only(np.s_[near:])
            x, s = part.maps(FINE_PER_M)
            fine = cv2.remap(
                self._fine, x % 512, s % 512, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
            )
            cv2.multiply(grain[near:], fine, grain[near:], scale=1 / 128)
        coarse = view.only(np.s_[::2])
        x, s = coarse.maps(2.63)
        patches = cv2.remap(
            self._patches,
            x[:, ::4] % 256,
            s[:, ::4] % 256,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )
        patches = cv2.resize(patches, grain.shape[::-1], interpolation=cv2.INTER_LINEAR)
        return cv2.multiply(grain, patches, scale=1 / 128)


@dataclass(frozen=True)
class _View:
    """For each image row: place along the road, the ground that a pixel covers, and x at its left.

    All (rows,) in metres; ``width`` in pixels.
    """

    s: Array
    metres_across: Array
    metres_along: Array
    x0: Array
    width: int

    @staticmethod
    def below_horizon(camera: Camera, first: int, height: int, width: int) -> _View:
        """Make the view of rows ``first`` to ``height`` of the canvas."""
        z = camera.height * camera.focal / (np.arange(first, height) + 0.5 - camera.horizon)
        across = z / camera.focal
        x0 = -camera.sideways(camera.s + z) - (camera.column - 0.5) * across
        return _View(camera.s + z, across, z * across / camera.height, x0, width)

    def only(self, rows: Array | slice) -> _View:
        return _View(
            self.s[rows],
            self.metres_across[rows],
            self.metres_along[rows],
            self.x0[rows],
            self.width,
        )

    def x(self, scale: float = 1.0, offset: float = 0.0) -> Array:
        """Compute metres right of the road's middle at every pixel, times scale, plus offset."""
        columns = np.arange(self.width, dtype=np.float32)
        start = (self.x0 * scale + offset).astype(np.float32)[:, None]
        return start + (self.metres_across * scale).astype(np.float32)[:, None] * columns

    def maps(self, per_m: float) -> tuple[Array, Array]:
        """Compute texture coordinates (x, s) of every pixel, float32; s within a tile of 4096
        texels."""
        s = ((self.s * per_m) % 4096).astype(np.float32)[:, None]
        return self.x(per_m), np.repeat(s, self.width, axis=1)


def _grain_rows(grain: Texture, view: _View) -> Array:
    """Sample the grain, tileable along s, uint8 (rows, width): each row in the copy that fits."""
    across = _levels(view.metres_across * GRAIN_PER_M, 10)
    along = _levels(view.metres_along * GRAIN_PER_M, 9)
    result = np.empty((len(view.s), view.width), np.uint8)
    pairs = np.stack((across, along), axis=1)
    cuts = np.flatnonzero((np.diff(pairs, axis=0) != 0).any(axis=1)) + 1
    for band in np.split(np.arange(len(view.s)), cuts):
        i, j = (int(level) for level in pairs[band[0]])
        part = view.only(band)
        x = part.x(GRAIN_PER_M / 2**i, HALF_WIDTH_M * GRAIN_PER_M / 2**i - 0.5)
        tile = GRAIN_LENGTH_M * GRAIN_PER_M / 2**j
        s = ((part.s % GRAIN_LENGTH_M) / GRAIN_LENGTH_M * tile - 0.5).astype(np.float32)
        s = np.repeat(s[:, None], view.width, axis=1)
        copy = grain.level(i, j)
        result[band] = cv2.remap(copy, x, s, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return result


def _levels(texels: Array, most: int) -> Array:
    return np.clip(np.floor(np.log2(np.maximum(texels, 1.0))), 0, most).astype(int)


def _section_rows(copies: Array, view: _View, level: Array) -> Array:
    x = view.x(SECTION_PER_M, HALF_WIDTH_M * SECTION_PER_M - 0.5)
    y = np.repeat(level.astype(np.float32)[:, None], view.width, axis=1)
    return cv2.remap(copies, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _blurred_copies(section: Array) -> Array:
    """Stack blurred copies (levels, columns, 3) uint8: row k is averaged over 2^k columns."""
    rows = [section]
    for level in range(1, 9):
        rows.append(cv2.blur(section, (2**level, 1), borderType=cv2.BORDER_REPLICATE))
    return to_uint8(np.concatenate(rows))


def _dash_share(s: Array, covers: Array, painted: float, period: float) -> Array:
    """Compute the share of each row's stretch of road that carries a dash: an integral, so that
    nothing flickers."""

    def painted_until(place: Array) -> Array:
        whole = np.floor(place / period)
        return whole * painted + np.minimum(place - whole * period, painted)

    half = np.maximum(covers, 1e-3) / 2
    return (painted_until(s + half) - painted_until(s - half)) / (2 * half)


def _section_labels(street: Street) -> Array:
    x = np.abs(np.arange(round(2 * HALF_WIDTH_M * 20)) / 20 - HALF_WIDTH_M + 0.025)
    labels = np.full(len(x), TREE, np.uint8)  # CamVid counts grass as vegetation
    labels[x < street.pavement_edge] = PAVEMENT
    labels[x < street.road_edge] = ROAD
    return labels


def _sections(rng: Rng, street: Street, light: Light) -> tuple[Array, Array]:
    """Draw the cross section (1, columns, 3) float32 without and with the dashes."""
    count = round(2 * HALF_WIDTH_M * SECTION_PER_M)
    x = (np.arange(count) + 0.5) / SECTION_PER_M - HALF_WIDTH_M
    side = np.abs(x)
    asphalt = np.array((1.0, 1.0, 1.03)) * rng.uniform(84, 132)
    colour = np.repeat((asphalt * np.ones((1, 3))), count, axis=0)
    for lane in range(-street.lanes, street.lanes):
        for wheel in (-0.75, 0.75):
            track = (lane + 0.5) * street.lane + wheel
            colour *= (1 + 0.07 * np.exp(-(((x - track) / 0.35) ** 2)))[:, None]
    colour *= (1 - 0.22 * np.exp(-(((side - street.road_edge) / 0.3) ** 2)))[:, None]
    slabs = np.array((1.0, 0.98, 0.94)) * rng.uniform(112, 160)
    kerb = np.array((1.0, 0.99, 0.96)) * rng.uniform(130, 175)
    grass = np.array((0.82, 1.0, 0.5)) * rng.uniform(80, 110)
    yard = slabs * 0.85 if rng.random() < 0.4 else grass
    colour[side > street.road_edge] = kerb
    colour[side > street.road_edge + KERB_M] = slabs
    colour[side > street.pavement_edge] = yard
    white, yellow = np.array((214, 214, 208.0)), np.array((206, 170, 70.0))
    lines = (np.array(white) if rng.random() < 0.6 else yellow) * rng.uniform(0.8, 1.0)
    dashed = colour.copy()
    edge_kind = int(rng.integers(3))
    for layer in (colour, dashed):
        if edge_kind > 0:
            for step in range(edge_kind):
                _stripe(layer, side, street.road_edge - 0.3 - 0.22 * step, lines)
        if street.parking:
            _stripe(layer, side, street.road_edge - street.parking, white * 0.9)
    for lane in range(1, street.lanes):
        _stripe(dashed, side, lane * street.lane, white)
    _stripe(dashed, side, 0.0, white)
    sunny = light.on_wall(light.side * 0.8)
    return tuple((layer * sunny).astype(np.float32)[None] for layer in (colour, dashed))


def _stripe(colour: Array, side: Array, at: float, paint: Array) -> None:
    colour[np.abs(side - at) < LINE_M / 2] = paint


def _grain(rng: Rng, street: Street) -> Array:
    """Draw the grain, uint8 (s, x), mean 128: asphalt with cracks and repairs, slabs with joints,
    grass."""
    rows, columns = STRIP_ROWS, round(2 * HALF_WIDTH_M * GRAIN_PER_M)
    fine, medium = noise_strip(rng, columns, 0.3), noise_strip(rng, columns, 1.1)
    asphalt = 1 + 0.045 * fine + 0.045 * medium
    _repairs(asphalt, rng)
    side = np.abs((np.arange(columns) + 0.5) / GRAIN_PER_M - HALF_WIDTH_M)
    slab_x = np.floor((side - street.road_edge - KERB_M) / 0.6).astype(int)
    slab_s = np.arange(rows)[:, None] * 20 // rows
    tones = rng.normal(1.0, 0.07, (20, 64))
    slabs = tones[slab_s, slab_x[None, :] % 64] * (1 + 0.035 * fine + 0.05 * medium)
    joints_x = ((side - street.road_edge - KERB_M) % 0.6 < 0.02)[None, :]
    joints_s = (np.arange(rows)[:, None] % (rows / 20)) < 1.5
    slabs = np.where(joints_x | joints_s, slabs * 0.68, slabs)
    kerb = (1 + 0.05 * fine) * np.where(np.arange(rows)[:, None] % (rows / 16) < 1.5, 0.7, 1.0)
    grass = 1 + 0.2 * fine + 0.14 * medium
    grain = np.where(side < street.road_edge + KERB_M, kerb, slabs)
    grain = np.where(side < street.road_edge, asphalt, grain)
    grain = np.where(side > street.pavement_edge, grass, grain)
    return to_uint8(128 * grain)


def _repairs(asphalt: Array, rng: Rng) -> None:
    """Draw repaired rectangles, darker or lighter, and winding cracks."""
    rows, columns = asphalt.shape
    for _ in range(14):
        x, s = int(rng.integers(columns)), int(rng.integers(rows))
        w, h = int(rng.integers(20, 130)), int(rng.integers(30, 400))
        asphalt[s : s + h, x : x + w] *= rng.uniform(0.84, 1.1)
        asphalt[s : s + h, x : x + 2] *= 0.75
        asphalt[s : s + h, x + w - 2 : x + w] *= 0.75
    cracks = np.zeros((rows, columns), np.uint8)
    for _ in range(26):
        start = rng.uniform((0, 0), (columns, rows))
        path = start + np.cumsum(rng.normal((rng.normal(0, 4), 6), 6, (40, 2)), axis=0)
        cv2.polylines(cracks, [path.astype(np.int32)], False, 255, 1, cv2.LINE_AA)
    asphalt *= 1 - 0.25 * (cracks.astype(np.float32) / 255)
