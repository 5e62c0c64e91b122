"""Who moves along the street at a time t, and the painting of all that stands or moves.

Each stream is a row of numbered slots that moves at one speed; a number decides what is in its
slot, so any moment can be asked for without the ones before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unirestore_ros.synthetic.canvas import NEAR_M, Camera, Canvas
from unirestore_ros.synthetic.frame import BICYCLIST, PEDESTRIAN
from unirestore_ros.synthetic.ground import Street
from unirestore_ros.synthetic.noise import Array, Rng, generator, sway
from unirestore_ros.synthetic.people import PHASES
from unirestore_ros.synthetic.sky import Light
from unirestore_ros.synthetic.street import CELL_M, Block, Panel, Parked, Standing, across_road
from unirestore_ros.synthetic.textures import PEOPLE, VEHICLES, Textures
from unirestore_ros.synthetic.vehicles import draw_vehicle

SPEED_M_PER_S = 9.0
TRAFFIC_VIEW_M = 130.0


@dataclass(frozen=True)
class Stream:
    """speed: m/s along the road, negative towards the camera; x: metres; spacing: metres."""

    name: str
    x: float
    speed: float
    spacing: float
    share: float
    spread: float = 0.0


class Traffic:
    def __init__(self, seed: int, street: Street, textures: Textures) -> None:
        self._seed, self._textures = seed, textures
        rng = generator(seed, "traffic")
        ours = -1.0 if street.left_hand else 1.0
        self.lane_x = ours * (street.lanes - 0.5) * street.lane
        self._phases = rng.uniform(0, 2 * np.pi, 4)
        self._lead = bool(rng.random() < 0.6)
        self._lead_gap = float(rng.uniform(9, 16))
        busy = float(rng.uniform(0.15, 0.75))
        self._cars = [Stream("oncoming", -ours * 0.5 * street.lane, -10.0, 24.0, busy)]
        if street.lanes > 1:
            self._cars.append(Stream("outer", -ours * 1.5 * street.lane, -11.5, 30.0, busy))
            self._cars.append(Stream("passing", ours * 0.5 * street.lane, 10.5, 34.0, busy * 0.7))
        kerb = street.road_edge - street.parking - 0.7
        self._cyclists = [
            Stream("cyclists", ours * kerb, 4.5, 45.0, float(rng.uniform(0, 0.6)), 0.1),
            Stream("cyclists back", -ours * kerb, -4.5, 50.0, float(rng.uniform(0, 0.5)), 0.1),
        ]
        crowd = float(rng.uniform(0.1, 0.7))
        walk = street.road_edge + street.pavement / 2 + 0.2
        self._walkers = [
            Stream(
                f"walkers {side} {speed}", side * walk, speed, 9.0, crowd, street.pavement * 0.28
            )
            for side in (-1.0, 1.0)
            for speed in (-1.25, 1.4)
        ]

    def vehicles(self, t: float, camera_s: float) -> Iterator[Parked]:
        for stream in self._cars:
            for _, s, rng in self._slots(stream, t, camera_s):
                vehicle = self._textures.vehicle(int(rng.integers(VEHICLES)))
                yield Parked(vehicle, stream.x, s, stream.speed < 0)
        if self._lead:
            ahead = self._lead_gap + 26 * (1 + sway(t, self._phases, (37.0, 61.0)))
            yield Parked(self._textures.vehicle(VEHICLES), self.lane_x, camera_s + ahead, False)

    def people(self, t: float, camera_s: float) -> Iterator[Standing]:
        for stream in self._walkers:
            for slot, s, rng in self._slots(stream, t, camera_s):
                x = stream.x + rng.uniform(-1, 1) * stream.spread
                phase = int(t * 1.9 * PHASES / 2 + 3 * slot) % PHASES
                number, size = int(rng.integers(PEOPLE)), rng.uniform(0.88, 1.06)
                texture = self._textures.pedestrian(number, phase, stream.speed < 0)
                yield Standing(texture, x, s, size, 1.9 * size, PEDESTRIAN, True)
        for stream in self._cyclists:
            for slot, s, rng in self._slots(stream, t, camera_s):
                phase = int(t * 1.2 * PHASES + 3 * slot) % PHASES
                number = int(rng.integers(PEOPLE))
                texture = self._textures.cyclist(number, phase, stream.speed < 0)
                yield Standing(texture, stream.x, s, 1.0, 1.9, BICYCLIST, True)

    def _slots(self, stream: Stream, t: float, camera_s: float) -> Iterator[tuple[int, float, Rng]]:
        """Yield taken slots in view: number, place along the road now, the slot's own generator."""
        origin = stream.speed * t
        first = int(np.floor((camera_s - origin) / stream.spacing)) - 1
        for slot in range(first, first + int(TRAFFIC_VIEW_M / stream.spacing) + 3):
            rng = generator(self._seed, stream.name, slot)
            if rng.random() < stream.share:
                place = (slot + rng.uniform(0.15, 0.6)) * stream.spacing + origin
                if place > camera_s:
                    yield slot, place, rng


VIEW_M = 180.0
_LEAST_PIXELS = 1.0  # on the canvas; smaller things are not painted


def paint_decals(
    canvas: Canvas,
    camera: Camera,
    light: Light,
    textures: Textures,
    blocks: Sequence[Block],
    vehicles: Sequence[Parked],
) -> None:
    """Paint shadows on the ground, under everything else."""
    decals = [decal for block in blocks for decal in block.decals]
    for parked in vehicles:
        if camera.s + 1.0 < parked.s < camera.s + VIEW_M:
            decals.append(_vehicle_shadow(parked, light, textures))
    if decals:
        corners = np.stack([decal.corners for decal in decals])
        for index, points, inverse in _in_view(camera, canvas, corners):
            _paint_panel(canvas, camera, decals[index], points, inverse)


def paint_things(
    canvas: Canvas,
    camera: Camera,
    textures: Textures,
    blocks: Sequence[Block],
    vehicles: Sequence[Parked],
    people: Sequence[Standing],
) -> None:
    """Paint far cells first; within a cell from the houses towards the road.

    Along a ray from the road both s and the distance from its middle grow, so this order is right.
    """
    panels = [panel for block in blocks for panel in block.panels]
    standing = [thing for block in blocks for thing in block.standing] + list(people)
    painters: list[tuple[float, float, int, tuple]] = []
    if panels:
        corners = np.concatenate([block.corners for block in blocks])
        places = corners.mean(axis=1)
        for index, points, inverse in _in_view(camera, canvas, corners):
            cell, x = _order(places[index, 2], places[index, 0])
            painters.append((cell, x, len(painters), (panels[index], points, inverse)))
    for thing, corner, size, foot in _standing_in_view(canvas, camera, standing):
        cell, x = _order(thing.s, thing.x)
        painters.append((cell, x, len(painters), (thing, corner, size, foot)))
    for parked in vehicles:
        if parked.s < camera.s + VIEW_M:
            cell, x = _order(parked.s, parked.x)
            painters.append((cell, x, len(painters), (parked,)))
    painters.sort(key=lambda entry: entry[:3], reverse=True)
    for number, (_, _, _, what) in enumerate(painters, start=1):
        thing = what[0]
        if isinstance(thing, Panel):
            _paint_panel(canvas, camera, *what)
        elif isinstance(thing, Standing):
            _, corner, size, foot = what
            instance = number if thing.counted else 0
            canvas.sprite(thing.texture, corner, size, foot, thing.label, instance)
        else:
            mesh = textures.mesh(thing.vehicle.number, thing.oncoming)
            draw_vehicle(canvas, camera, mesh, (thing.x, thing.s), number)


def _order(s: float, x: float) -> tuple[float, float]:
    return float(np.floor(s / CELL_M)), abs(float(x))


def _vehicle_shadow(parked: Parked, light: Light, textures: Textures) -> Panel:
    half_width = parked.vehicle.width * 0.5 * 1.45
    half_length = parked.vehicle.length * 0.5 * 1.4
    x = parked.x - 0.5 * light.sun * light.side * light.shadow_reach
    left, right = x - half_width, x + half_width
    near, far = parked.s - half_length, parked.s + half_length
    corners = across_road((left, right), (0.0, 0.0), (far, near))
    return Panel(corners, textures.soft_shadow(), None)


def _in_view(camera: Camera, canvas: Canvas, corners: Array) -> list[tuple[int, Array, Array]]:
    """Choose the panels (P,4,3) to paint: number, canvas points (4,2), inverse depths (4,)."""
    s = corners[..., 2]
    points, inverse = camera.project(corners[..., 0], corners[..., 1], s)
    low, high = points.min(axis=1), points.max(axis=1)
    seen = (s.max(axis=1) > camera.s + NEAR_M + 0.05) & (s.min(axis=1) < camera.s + VIEW_M)
    seen &= (high > 0).all(axis=1) & (low < (canvas.width, canvas.height)).all(axis=1)
    seen &= (high - low > _LEAST_PIXELS).all(axis=1)
    return [(int(i), points[i], inverse[i]) for i in np.flatnonzero(seen)]


def _standing_in_view(
    canvas: Canvas, camera: Camera, standing: Sequence[Standing]
) -> list[tuple[Standing, tuple[float, float], tuple[float, float], float]]:
    """Choose the upright textures to paint: top left corner, size, inverse depth."""
    if not standing:
        return []
    places = np.array([(thing.x, thing.s, thing.width, thing.height) for thing in standing])
    feet, inverse = camera.project(places[:, 0], np.zeros(len(places)), places[:, 1])
    sizes = places[:, 2:] * (camera.focal * inverse)[:, None]
    corners = feet - sizes * (0.5, 1.0)
    ahead = places[:, 1] - camera.s
    seen = (ahead > NEAR_M + 0.3) & (ahead < VIEW_M) & (sizes > _LEAST_PIXELS).all(axis=1)
    seen &= (corners < (canvas.width, canvas.height)).all(axis=1) & (corners + sizes > 0).all(
        axis=1
    )
    return [
        (standing[i], tuple(corners[i].tolist()), tuple(sizes[i].tolist()), float(inverse[i]))
        for i in np.flatnonzero(seen).tolist()
    ]


def _paint_panel(
    canvas: Canvas, camera: Camera, panel: Panel, points: Array, inverse: Array
) -> None:
    part, near = panel.part, camera.s + NEAR_M
    if panel.corners[:, 2].min() < near:
        corners, part = _cut(panel.corners, part, near)
        points, inverse = camera.project(corners[:, 0], corners[:, 1], corners[:, 2])
    canvas.quad(panel.texture, points, inverse, panel.label, part)


def _cut(
    corners: Array, part: tuple[float, float], near: float
) -> tuple[Array, tuple[float, float]]:
    """Cut off what lies behind ``near`` from a panel along the road.

    What lies on the ground or faces the camera is squeezed, not cut: shadows, gone in a moment.
    """
    left, right = corners[0, 2], corners[1, 2]
    corners = corners.copy()
    if left == right:
        corners[:, 2] = np.maximum(corners[:, 2], near)
        return corners, part
    share = (near - left) / (right - left)
    edge = part[0] + share * (part[1] - part[0])
    if left < right:
        for start, end in ((0, 1), (3, 2)):
            corners[start] += share * (corners[end] - corners[start])
        return corners, (edge, part[1])
    for start, end in ((0, 1), (3, 2)):
        corners[end] = corners[start] + share * (corners[end] - corners[start])
    return corners, (part[0], edge)
