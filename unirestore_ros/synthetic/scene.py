"""Everything that stands or moves, painted from far to near."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unirestore_ros.synthetic.camera import NEAR_M, Camera
from unirestore_ros.synthetic.canvas import Canvas
from unirestore_ros.synthetic.light import Light
from unirestore_ros.synthetic.shelf import Pictures
from unirestore_ros.synthetic.street import CELL_M, Block, Panel, Parked, Standing
from unirestore_ros.synthetic.vehicles import draw_vehicle

VIEW_M = 180.0
_LEAST_PIXELS = 1.0  # on the canvas; smaller things are not painted


def paint_decals(
    canvas: Canvas,
    camera: Camera,
    light: Light,
    pictures: Pictures,
    blocks: Sequence[Block],
    vehicles: Sequence[Parked],
) -> None:
    """Shadows on the ground, under everything else."""
    decals = [decal for block in blocks for decal in block.decals]
    for parked in vehicles:
        if camera.s + 1.0 < parked.s < camera.s + VIEW_M:
            decals.append(_vehicle_shadow(parked, light, pictures))
    if decals:
        corners = np.stack([decal.corners for decal in decals])
        for index, points, inverse in _in_view(camera, canvas, corners):
            _paint_panel(canvas, camera, decals[index], points, inverse)


def paint_things(
    canvas: Canvas,
    camera: Camera,
    pictures: Pictures,
    blocks: Sequence[Block],
    vehicles: Sequence[Parked],
    people: Sequence[Standing],
) -> None:
    """Far cells first; within a cell from the houses towards the road.

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
            mesh = pictures.mesh(thing.vehicle, thing.oncoming)
            draw_vehicle(canvas, camera, mesh, (thing.x, thing.s), number)


def _order(s: float, x: float) -> tuple[float, float]:
    return float(np.floor(s / CELL_M)), abs(float(x))


def _vehicle_shadow(parked: Parked, light: Light, pictures: Pictures) -> Panel:
    half_width = parked.vehicle.width * 0.5 * 1.45
    half_length = parked.vehicle.length * 0.5 * 1.4
    x = parked.x - 0.5 * light.sun * light.side * light.shadow_reach
    left, right = x - half_width, x + half_width
    near, far = parked.s - half_length, parked.s + half_length
    corners = np.array(((left, 0, far), (right, 0, far), (right, 0, near), (left, 0, near)), float)
    return Panel(corners, pictures.soft_shadow(), None)


def _in_view(
    camera: Camera, canvas: Canvas, corners: np.ndarray
) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Of panels (P,4,3) those to paint: number, canvas points (4,2), inverse depths (4,)."""
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
    """Of upright pictures those to paint: top left corner, size, inverse depth."""
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
    canvas: Canvas, camera: Camera, panel: Panel, points: np.ndarray, inverse: np.ndarray
) -> None:
    part, near = panel.part, camera.s + NEAR_M
    if panel.corners[:, 2].min() < near:
        corners, part = _cut(panel.corners, part, near)
        points, inverse = camera.project(corners[:, 0], corners[:, 1], corners[:, 2])
    canvas.quad(panel.texture, points, inverse, panel.label, part)


def _cut(
    corners: np.ndarray, part: tuple[float, float], near: float
) -> tuple[np.ndarray, tuple[float, float]]:
    """A panel along the road without what lies behind ``near``.

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
