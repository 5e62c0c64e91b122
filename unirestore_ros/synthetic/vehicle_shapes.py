"""Cars, estates and vans: a body drawn out of its side profile, as flat faces already lit.

Local metres: x to the right, y up, z along the road; ``heading`` is 1 for a vehicle seen from
behind and -1 for one that comes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from unirestore_ros.synthetic.noise import Array, generator, palette
from unirestore_ros.synthetic.sky import Light

PAINTS = palette(
    "acb0b4 34373c d6d8d8 7c8086 862228 243a6c 54626a 26262a 622026 345446 b4a482 96acba"
)
GLASS = np.array((34.0, 38.0, 42.0))
MOST_POINTS = 16


def _outline(text: str) -> Array:
    return np.array([[float(part) for part in point.split()] for point in text.split(",")])


@dataclass(frozen=True)
class Profile:
    """outline: (N,2), metres along and up, from the tail over the top to the nose; the second and
    the last but one points are the bumpers'; belt: height where glass begins."""

    outline: Array
    belt: float
    width: float


PROFILES = {
    "saloon": Profile(
        _outline(
            "-2.2 .28, -2.24 .62, -2.1 .95, -1.5 1.02, -.95 1.4, .1 1.44,"
            ".5 1.38, 1.15 .98, 2 .82, 2.2 .58, 2.2 .26"
        ),
        0.98,
        1.74,
    ),
    "hatchback": Profile(
        _outline(
            "-1.9 .3, -1.95 .65, -1.85 1, -1.55 1.42, -1.2 1.5, .1 1.5,"
            ".45 1.42, 1.1 1, 1.75 .86, 1.93 .6, 1.92 .26"
        ),
        1.0,
        1.7,
    ),
    "offroad": Profile(
        _outline(
            "-2.15 .4, -2.2 .75, -2.15 1.15, -2 1.7, -1.7 1.78, .2 1.78,"
            ".6 1.68, 1.05 1.16, 2 1.05, 2.18 .75, 2.15 .36"
        ),
        1.14,
        1.86,
    ),
    "van": Profile(
        _outline(
            "-2.6 .4, -2.64 .8, -2.62 1.3, -2.55 2.15, -2.3 2.22, 1 2.2,"
            "1.35 2, 1.95 1.3, 2.45 1.05, 2.6 .7, 2.58 .32"
        ),
        1.28,
        1.96,
    ),
}


@dataclass(frozen=True)
class Vehicle:
    number: int
    kind: str
    paint: Array

    @property
    def length(self) -> float:
        return float(np.ptp(PROFILES[self.kind].outline[:, 0]))

    @property
    def width(self) -> float:
        return PROFILES[self.kind].width


def make_vehicle(seed: int, number: int) -> Vehicle:
    rng = generator(seed, "vehicle", number)
    kinds = ("saloon", "saloon", "hatchback", "hatchback", "hatchback", "offroad", "van")
    kind = str(rng.choice(kinds))
    paint = np.array(PAINTS[rng.integers(len(PAINTS))], float) * rng.uniform(0.85, 1.1)
    if kind == "van" and rng.random() < 0.6:
        paint = np.array((216.0, 218.0, 218.0))
    return Vehicle(number, kind, paint)


@dataclass
class Face:
    """points: (N,3), N at most MOST_POINTS; a face of a higher rank lies on those of a lower one;
    outline: it is part of the silhouette."""

    points: Array
    colour: Array
    normal: Array
    rank: int
    outline: bool = False


@dataclass(frozen=True)
class Detail:
    """An image laid on the body: ``kind`` flank, tail or glass; corners (4,3)."""

    kind: str
    corners: Array
    normal: Array


def faces_of(vehicle: Vehicle, light: Light, heading: float) -> tuple[list[Face], list[Detail]]:
    body = _Body(vehicle, light, heading)
    body.shell()
    for side in (-1.0, 1.0):
        body.flank(side)
        body.wheels(side)
    body.tail_and_nose()
    return body.faces, body.details


class _Body:
    def __init__(self, vehicle: Vehicle, light: Light, heading: float) -> None:
        profile = PROFILES[vehicle.kind]
        self._vehicle, self._light, self._heading = vehicle, light, heading
        self._outline, self._belt, self._half = profile.outline, profile.belt, profile.width / 2
        self._ends = (float(self._outline[:, 0].min()), float(self._outline[:, 0].max()))
        self.faces: list[Face] = []
        self.details: list[Detail] = []

    def shell(self) -> None:
        """Add the strip over tail, roof, windscreen and bonnet, in pieces for a smooth shade."""
        for (z0, y0), (z1, y1) in itertools.pairwise(self._outline):
            steep = abs(y1 - y0) > 0.35 * abs(z1 - z0)
            window = steep and min(y0, y1) >= self._belt - 0.06 and max(y0, y1) > self._belt + 0.2
            normal = np.array((0.0, z1 - z0, -(y1 - y0) * self._heading))
            normal = normal / np.linalg.norm(normal)
            for lower, upper in itertools.pairwise(np.linspace(0, 1, 4)):
                heights = (y0 + (y1 - y0) * lower, y0 + (y1 - y0) * upper)
                alongs = (z0 + (z1 - z0) * lower, z0 + (z1 - z0) * upper)
                paint = self._lit(self._vehicle.paint, normal, 0.16)
                self.faces.append(Face(self._across(heights, alongs), paint, normal, 0, True))
                if window:
                    gloss = 0.3 + 0.35 * (max(heights) - self._belt)
                    pane = self._across(heights, alongs, 0.88)
                    self.faces.append(Face(pane, self._lit(GLASS, normal, gloss), normal, 1))
            kind = "glass" if window else "tail" if z1 < self._ends[0] + 0.2 else None
            if kind and max(y0, y1) > 0.7:
                corners = self._across((y1, y0), (z1, z0), 0.85 if window else 0.97)[[0, 1, 2, 3]]
                self.details.append(Detail(kind, corners, normal))

    def flank(self, side: float) -> None:
        """Add body strips that slant from mirroring the road to the sky; cabin and windows."""
        heights = np.linspace(0.26, self._belt, 9)
        for lower, upper in itertools.pairwise(heights):
            share = (lower + upper) / 2 / self._belt
            tilt = 0.75 * (share - 0.55) + 0.35 * np.exp(-(((share - 0.8) / 0.09) ** 2))
            normal = np.array((side, tilt, 0.0)) / np.hypot(1.0, tilt)
            (tail, _), (_, nose) = self._reach(lower), self._reach(upper)
            strip = [(lower - 0.012, tail), (lower - 0.012, nose), (upper, nose), (upper, tail)]
            self._side_face(strip, side, self._lit(self._vehicle.paint, normal, 0.3), 0)
        cabin = self._outline[self._outline[:, 1] > self._belt - 0.02]
        normal = np.array((side, 0.25, 0.0)) / np.hypot(1.0, 0.25)
        roof = [(float(y) - 0.01, float(z)) for z, y in cabin]
        self._side_face(roof, side, self._lit(self._vehicle.paint, normal, 0.15), 0)
        self._side_windows(cabin, side)
        near, far = self._ends[0] + 0.15, self._ends[1] - 0.15
        low, x = 0.3, side * self._half * 1.004
        ends = (far, near) if side * self._heading > 0 else (near, far)
        corners = np.array(
            [
                (x, y, z * self._heading)
                for y, z in zip(
                    (self._belt, self._belt, low, low),
                    (ends[0], ends[1], ends[1], ends[0]),
                    strict=True,
                )
            ]
        )
        self.details.append(Detail("flank", corners, np.array((side, 0.0, 0.0))))

    def wheels(self, side: float) -> None:
        turn = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        for z in (self._ends[0] * 0.62, self._ends[1] * 0.64):
            for radius, tone, rank in ((0.37, 14, 2), (0.32, 30, 3), (0.2, 120, 4), (0.08, 52, 5)):
                wheel = [(0.32 + radius * np.sin(a), z + radius * np.cos(a)) for a in turn]
                self._side_face(wheel, side, np.full(3, float(tone)) * self._light.shade, rank)

    def tail_and_nose(self) -> None:
        """Add lamps, number plates, grille and the shadow under the bumper."""
        for point, direction, lamp, plate in (
            (self._outline[1], -1.0, np.array((150.0, 22.0, 24.0)), np.array((220.0, 190, 60))),
            (self._outline[-2], 1.0, np.array((225.0, 228, 230)), np.array((220.0, 220, 216))),
        ):
            y, half = float(point[1]), self._half
            z = (float(point[0]) + 0.05 * direction) * self._heading
            for side in (-1.0, 1.0):
                self._patch(side * half * 0.78, y + 0.14, 0.16, 0.09, z, direction, lamp)
                self._patch(side * half * 0.78, y + 0.15, 0.06, 0.05, z, direction, lamp * 1.2 + 20)
            self._patch(0.0, y - 0.06, 0.26, 0.06, z, direction, plate)
            self._patch(0.0, y - 0.06, 0.2, 0.025, z, direction, np.full(3, 48.0))
            self._patch(0.0, y - 0.26, half * 0.9, 0.07, z, direction, np.full(3, 30.0))
            if direction > 0:
                self._patch(0.0, y + 0.12, half * 0.45, 0.06, z, direction, np.full(3, 34.0))

    def _side_windows(self, cabin: Array, side: float) -> None:
        middle = cabin.mean(axis=0)
        shrunk = middle + (cabin - middle) * np.array((0.86, 0.74))
        lowest = max(float(shrunk[:, 1].min()), self._belt + 0.03)
        van = self._vehicle.kind == "van"
        cut = float(shrunk[:, 0].min() + np.ptp(shrunk[:, 0]) * (0.72 if van else 0.5))
        normal = np.array((side, 0.3, 0.0)) / np.hypot(1.0, 0.3)
        for rear in (False,) if van else (True, False):
            edges = [min(z, cut - 0.04) if rear else max(z, cut + 0.04) for z in shrunk[:, 0]]
            pane = [
                (max(float(y), lowest), float(z)) for y, z in zip(shrunk[:, 1], edges, strict=True)
            ]
            self._side_face(pane, side, self._lit(GLASS, normal, 0.34), 2)

    def _patch(
        self, x: float, y: float, w: float, h: float, z: float, facing: float, colour: Array
    ) -> None:
        """Add a rectangle that faces forwards (1) or backwards (-1); w and h are half sizes."""
        corners = ((x - w, y - h, z), (x + w, y - h, z), (x + w, y + h, z), (x - w, y + h, z))
        normal = np.array((0.0, 0.0, facing * self._heading))
        self.faces.append(Face(np.array(corners), colour * self._light.on_wall(0.0), normal, 3))

    def _side_face(
        self, outline: list[tuple[float, float]], side: float, colour: Array, rank: int
    ) -> None:
        """Add a face of one flank from (metres up, metres along) pairs."""
        points = [(side * self._width_at(y), y, z * self._heading) for y, z in outline]
        normal = np.array((side, 0.15, 0.0))
        self.faces.append(Face(np.array(points), colour, normal, rank, rank in (0, 2)))

    def _across(
        self, heights: tuple[float, float], alongs: tuple[float, float], share: float = 1.0
    ) -> Array:
        """Make a quad over ``share`` of the body's width between two heights."""
        first, second = (share * self._width_at(y) for y in heights)
        z0, z1 = (z * self._heading for z in alongs)
        return np.array(
            (
                (-first, heights[0], z0),
                (first, heights[0], z0),
                (second, heights[1], z1),
                (-second, heights[1], z1),
            )
        )

    def _width_at(self, y: float) -> float:
        """Return the half width at a height: less at the sills, still less towards the roof."""
        roof, sill = max(y - self._belt, 0.0), max(0.5 - y, 0.0)
        return self._half * (1 - 0.18 * min(roof, 1.0) - 0.05 * sill)

    def _reach(self, height: float) -> tuple[float, float]:
        """Find where the profile begins and ends at a height."""
        middle = len(self._outline) // 2
        tail, nose = self._outline[:middle], self._outline[middle:][::-1]
        back = float(np.interp(height, tail[:, 1], tail[:, 0]))
        front = float(np.interp(height, nose[:, 1], nose[:, 0]))
        return back, front

    def _lit(self, colour: Array, normal: Array, gloss: float) -> Array:
        """Light paint under the sky, over the road, the sun at one side; gloss mirrors the sky."""
        light, up = self._light, float(normal[1])
        sun = light.sun * max(0.0, float(normal @ np.array((0.55 * light.side, 0.75, 0.2))))
        ambient = light.shade * (0.66 + 0.4 * up)
        mirrored = light.horizon * gloss * float(np.clip(0.25 + 0.75 * up, 0.0, 1.0)) ** 2
        return colour * (ambient + 0.75 * sun * light.sunlit) + mirrored
