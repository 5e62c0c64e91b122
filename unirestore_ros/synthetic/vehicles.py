"""Vehicles on the canvas: faces projected together, hidden ones left out, the rest painted."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from unirestore_ros.synthetic.canvas import Camera, Canvas, Texture
from unirestore_ros.synthetic.frame import CAR
from unirestore_ros.synthetic.noise import Array, Rng, noise_patch, to_uint8
from unirestore_ros.synthetic.vehicle_shapes import MOST_POINTS, Detail, Face

NEAREST_M = 0.9
_DETAILED_M = 40.0
_COARSE_M = 80.0
_LEAST_PIXELS = 0.8  # smaller faces are not painted


@dataclass(frozen=True)
class Mesh:
    """All faces of a vehicle. points: (F, MOST_POINTS, 3), each face's last point repeated."""

    points: Array
    counts: Array
    colours: list[tuple[float, float, float]]
    normals: Array
    ranks: Array
    outline: Array
    details: list[tuple[Detail, Texture]]


def make_mesh(faces: list[Face], details: list[Detail], images: dict[str, Texture]) -> Mesh:
    points = np.stack(
        [
            np.concatenate(
                (f.points, np.repeat(f.points[-1:], MOST_POINTS - len(f.points), axis=0))
            )
            for f in faces
        ]
    )
    colours = [tuple(float(part) for part in np.clip(f.colour, 0, 255)) for f in faces]
    return Mesh(
        points=points,
        counts=np.array([len(f.points) for f in faces]),
        colours=colours,  # type: ignore[arg-type]
        normals=np.stack([f.normal for f in faces]),
        ranks=np.array([f.rank for f in faces]),
        outline=np.array([f.outline for f in faces]),
        details=[(detail, images[detail.kind]) for detail in details],
    )


def draw_vehicle(
    canvas: Canvas, camera: Camera, mesh: Mesh, place: tuple[float, float], instance: int
) -> None:
    """Paint a vehicle whose middle stands at place = (x, s), along the road."""
    x, s = place
    if s + mesh.points[..., 2].min() - camera.s < NEAREST_M:
        return
    place_in_view = _Place(camera, x, s)
    pixels, inverse = place_in_view.project(mesh.points)
    if pixels[..., 0].max() < 0 or pixels[..., 0].min() > canvas.width:
        return
    to_eye = place_in_view.eye - mesh.points.mean(axis=1)
    large = np.ptp(pixels, axis=1).max(axis=1) > _LEAST_PIXELS
    if s - camera.s > _COARSE_M:  # silhouette and glass are all that is seen
        large &= mesh.ranks <= 2
    shown = np.flatnonzero(((mesh.normals * to_eye).sum(axis=1) > 0) & (large | mesh.outline))
    order = np.lexsort((to_eye[shown, 2], mesh.ranks[shown]))
    drawn = shown[order]
    canvas.polygons(
        pixels[drawn],
        mesh.counts[drawn],
        [mesh.colours[face] for face in drawn],
        inverse[drawn].mean(axis=1),
        mesh.outline[drawn],
        CAR,
        instance,
    )
    if s - camera.s < _DETAILED_M:
        for detail, texture in mesh.details:
            if detail.normal @ (place_in_view.eye - detail.corners.mean(axis=0)) > 0:
                canvas.quad(texture, *place_in_view.project(detail.corners), label=None)


class _Place:
    """Where a vehicle stands; seen from it, the camera is at ``eye``."""

    def __init__(self, camera: Camera, x: float, s: float) -> None:
        self._camera, self._s = camera, s
        self._lean = float(camera.bend.slope(s) - camera.bend.slope(camera.s))
        self._x = float(camera.sideways(s)) + x
        self.eye = np.array((-self._x, camera.height, camera.s - s))

    def project(self, points: Array) -> tuple[Array, Array]:
        """Project local points (...,3) to canvas points (...,2) and inverse depths (...)."""
        camera, along = self._camera, points[..., 2]
        inverse = 1.0 / (self._s + along - camera.s)
        across = (self._x + points[..., 0] + self._lean * along) * camera.focal * inverse
        down = camera.horizon - (points[..., 1] - camera.height) * camera.focal * inverse
        return np.stack((across + camera.column, down), axis=-1), inverse


def make_detail(rng: Rng, kind: str) -> Array:
    """Draw a detail, premultiplied RGBA, 64 by 256 for a flank, 64 by 128 for tail and glass."""
    width = 256 if kind == "flank" else 128
    stretched = noise_patch(rng, 64, 64, 1.3)
    noise = cv2.resize(stretched, (width, 64), interpolation=cv2.INTER_CUBIC)
    strength = 42.0 if kind == "glass" else 16.0
    tone = np.where(noise > 0, 205.0 if kind == "glass" else 255.0, 0.0)
    alpha = np.clip(np.abs(noise) * strength, 0, 150)
    if kind == "flank":
        _seams(tone, alpha, rng)
    elif kind == "tail":
        _line(tone, alpha, (8, 20), (120, 20), 0.0, 130.0)
        _line(tone, alpha, (10, 20), (6, 60), 0.0, 90.0)
        _line(tone, alpha, (118, 20), (122, 60), 0.0, 90.0)
        _line(tone, alpha, (54, 30), (74, 30), 0.0, 150.0)
    else:
        _line(tone, alpha, (20, 58), (84, 50), 0.0, 190.0)
    colour = np.repeat((tone * alpha / 255)[..., None], 3, axis=2)
    return np.dstack((to_uint8(colour), to_uint8(alpha)))


def _seams(tone: Array, alpha: Array, rng: Rng) -> None:
    """Draw doors, handles, a moulding and dirt above the sill."""
    door = int(rng.integers(96, 116))
    for x in (door - 42, door, door + 46):
        _line(tone, alpha, (x, 0), (x + 2, 58), 0.0, 130.0)
    for x in (door - 12, door + 34):
        _line(tone, alpha, (x, 12), (x + 8, 12), 15.0, 170.0)
        _line(tone, alpha, (x, 10), (x + 8, 10), 240.0, 90.0)
    _line(tone, alpha, (10, 40), (246, 40), 10.0, 100.0)
    rows = np.linspace(0, 1, 64)[:, None] ** 5
    dirt = 90.0 * rows * np.ones_like(alpha)
    tone += (95.0 - tone) * (dirt > alpha)
    np.maximum(alpha, dirt, out=alpha)


def _line(
    tone: Array,
    alpha: Array,
    start: tuple[int, int],
    end: tuple[int, int],
    grey: float,
    strength: float,
) -> None:
    cv2.line(tone, start, end, grey, 1)
    cv2.line(alpha, start, end, strength, 1)
