"""A drive through a town that does not exist: image, depth, labels and boxes at any time."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from unirestore_ros.synthetic.canvas import SUPERSAMPLE, Bend, Camera, Canvas
from unirestore_ros.synthetic.driving import degrade, frame_rng
from unirestore_ros.synthetic.frame import FAR_M, SKY, Frame, boxes_of
from unirestore_ros.synthetic.ground import Ground, Street
from unirestore_ros.synthetic.noise import Array, Rng, generator, sway, to_uint8
from unirestore_ros.synthetic.programme import DEMO_SEED, RATE_HZ, stretch_of_each
from unirestore_ros.synthetic.scene import (
    SPEED_M_PER_S,
    VIEW_M,
    Traffic,
    paint_decals,
    paint_things,
)
from unirestore_ros.synthetic.sky import MARGIN, Light, make_light, make_sky
from unirestore_ros.synthetic.street import BLOCK_M, CELL_M, CELLS, Town
from unirestore_ros.synthetic.textures import Textures

FOCAL_PER_WIDTH = 0.9  # a lens of 58 degrees
SKYLINE_M = 400.0
# The look of a consumer camera: an S-shaped tone curve and some sharpening, set so that contrast
# and amplitude spectrum come close to those of CamVid's photographs.
_CONTRAST = 0.55
_SHARPENING = 0.35


class Drive:
    """Frames of one drive, a function of (seed, size, t): any t in any order gives the same frame.

    size: (width, height) in pixels, both at least 32. Not for two threads at once.
    """

    def __init__(self, seed: int, size: tuple[int, int] = (480, 360)) -> None:
        width, height = size
        if width < 32 or height < 32:
            raise ValueError(f"size {width}x{height} is too small: at least 32x32")
        self.seed, self.size = seed, (width, height)
        rng = generator(seed, "drive")
        self._street = _make_street(rng)
        self._light = make_light(seed)
        self._textures = Textures(seed, self._light)
        self._traffic = Traffic(seed, self._street, self._textures)
        reach = self._light.shadow_reach * self._light.side
        self._town = Town(seed, self._street, self._textures, reach)
        self._ground = Ground(seed, self._street, self._light)
        self._focal = FOCAL_PER_WIDTH * width * SUPERSAMPLE
        self._sky, self._sky_labels = make_sky(seed, self._light, width * SUPERSAMPLE, self._focal)
        self._block = lru_cache(16)(self._town.block)
        self._start = float(rng.uniform(0, 5000))
        self._camera_height = float(rng.uniform(1.25, 1.55))
        self._phases = rng.uniform(0, 2 * np.pi, 8)
        lengths = rng.uniform(280, 700, 2)
        self._bend = Bend(
            rng.uniform(0, 0.6) * lengths**2 / (4 * np.pi**2 * 320),
            lengths,
            rng.uniform(0, 2 * np.pi, 2),
        )
        self._finish = _Finish(self._light, width, height)

    def frame(self, t: float) -> Frame:
        """Render the frame t seconds into the drive."""
        camera = self._camera(t)
        canvas = Canvas(*self.size)
        self._paint_sky(canvas, camera)
        self._paint_ground(canvas, camera)
        self._paint_things(canvas, camera, t)
        depth = 1.0 / np.maximum(canvas.inverse_depth, np.float32(1 / FAR_M))
        depth[canvas.labels == SKY] = FAR_M
        image = cv2.resize(canvas.image, self.size, interpolation=cv2.INTER_AREA)
        image = self._finish.look(image, depth, canvas.labels)
        return Frame(image, depth, canvas.labels, boxes_of(canvas.instances, canvas.labels))

    def _camera(self, t: float) -> Camera:
        width, height = self.size[0] * SUPERSAMPLE, self.size[1] * SUPERSAMPLE
        phases = self._phases
        return Camera(
            s=self._start + SPEED_M_PER_S * t + 12.0 * sway(t, phases, (41.0, 67.0)),
            x=self._traffic.lane_x + 0.2 * sway(t, phases[2:], (13.0, 29.0)),
            height=self._camera_height + 0.012 * sway(t, phases[4:], (0.9, 1.7)),
            focal=self._focal,
            column=width / 2 + 0.012 * width * sway(t, phases[5:], (11.0, 23.0)),
            horizon=0.46 * height + 0.0035 * height * sway(t, phases[6:], (0.8, 2.1)),
            bend=self._bend,
        )

    def _paint_sky(self, canvas: Canvas, camera: Camera) -> None:
        """Paint the sky, which turns with the road's course and with the camera."""
        course = float(np.arctan(camera.bend.slope(camera.s)))
        rows, columns = self._sky.shape[:2]
        x = camera.column - columns / 2 - course * camera.focal * 0.5
        limit = (MARGIN - 1) * canvas.width
        x = float(np.clip(x, -limit, 0.0))
        y = camera.horizon - rows
        shift = np.array(((1, 0, x), (0, 1, y)), np.float32)
        cv2.warpAffine(
            self._sky,
            shift,
            (canvas.width, canvas.height),
            dst=canvas.image,
            borderMode=cv2.BORDER_REPLICATE,
        )
        small = np.array(((0.5, 0, x / 2), (0, 0.5, y / 2)), np.float32)
        canvas.labels = cv2.warpAffine(
            self._sky_labels,
            small,
            self.size,
            flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_REPLICATE,
        )
        canvas.inverse_depth[...] = np.where(canvas.labels == SKY, 1 / FAR_M, 1 / SKYLINE_M)

    def _paint_ground(self, canvas: Canvas, camera: Camera) -> None:
        first = self._ground.first_row(camera) // SUPERSAMPLE
        below = (np.arange(first, self.size[1]) + 0.5) * SUPERSAMPLE - camera.horizon
        z = camera.height * camera.focal / below
        columns = (np.arange(self.size[0]) + 0.5) * SUPERSAMPLE - camera.column
        x = z[:, None] * columns / camera.focal - camera.sideways(camera.s + z)[:, None]
        canvas.labels[first:] = self._ground.labels_at(x)
        canvas.inverse_depth[first:] = (1.0 / z)[:, None]
        self._ground.paint(canvas.image, camera, self._house_shadows(x, z, camera))

    def _house_shadows(self, x: Array, z: Array, camera: Camera) -> Array | None:
        """Compute how much sun the houses on its side take from each ground pixel, in [0, 1]."""
        if self._light.sun < 0.1:
            return None
        side = 1 if self._light.side > 0 else -1
        place = np.minimum(camera.s + z, camera.s + VIEW_M)
        cells = np.floor(place / CELL_M).astype(int)
        reach = {}
        for cell in np.unique(cells):
            block = self._block(int(cell) // CELLS, side)
            height = block.heights[int(cell) % CELLS]
            reach[cell] = block.front - height * self._light.shadow_reach if height else np.inf
        edge = np.array([reach[cell] for cell in cells])[:, None]
        return np.clip((x * side - edge) / 0.25, 0, 1).astype(np.float32)

    def _paint_things(self, canvas: Canvas, camera: Camera, t: float) -> None:
        first, last = (int(s // BLOCK_M) for s in (camera.s, camera.s + VIEW_M))
        blocks = [self._block(i, side) for i in range(first, last + 1) for side in (-1, 1)]
        vehicles = [parked for block in blocks for parked in block.parked]
        vehicles += self._traffic.vehicles(t, camera.s)
        people = list(self._traffic.people(t, camera.s))
        paint_decals(canvas, camera, self._light, self._textures, blocks, vehicles)
        paint_things(canvas, camera, self._textures, blocks, vehicles, people)


@dataclass(frozen=True)
class DemoFrame:
    """clean, degraded: (H,W,3) uint8 RGB; stretch: its name; offset_s: seconds after the first."""

    clean: Array
    degraded: Array
    stretch: str
    offset_s: float


def demo_frames(
    count: int, size: tuple[int, int] = (480, 360), part: range | None = None
) -> Iterator[DemoFrame]:
    """Yield ``count`` frames at RATE_HZ through all stretches, each of at least one frame; or only
    those with an index in ``part``, so that several processes may share the work.

    Raises ValueError if there are fewer frames than stretches.
    """
    stretches = stretch_of_each(count)
    drive = _demo_drive(size)
    for index in range(count) if part is None else part:
        stretch, offset = stretches[index], index / RATE_HZ
        frame = drive.frame(offset)
        rng = frame_rng(str(DEMO_SEED), stretch.degradation, index)
        degraded = degrade(frame.image, stretch.degradation, stretch.severity, rng, frame.depth)
        yield DemoFrame(frame.image, degraded, stretch.name, offset)


def render_demo_frames(count: int, size: tuple[int, int], start: int, stop: int) -> list[DemoFrame]:
    """The task of a process that shares the work of ``demo_frames`` with others."""
    cv2.setNumThreads(1)  # there is a process for each core: threads within them only cost
    return list(demo_frames(count, size, range(start, stop)))


@functools.lru_cache(maxsize=1)
def _demo_drive(size: tuple[int, int]) -> Drive:
    return Drive(DEMO_SEED, size)


class _Finish:
    """From painted scene to camera image: haze, a lens that darkens its corners, a tone curve."""

    def __init__(self, light: Light, width: int, height: int) -> None:
        self._light = light
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        self._vignette = (1 - 0.09 * (x**2 + y**2)).astype(np.float32)[..., None]
        level = np.arange(256) / 255.0
        curve = level * (1 - _CONTRAST) + _CONTRAST * level**2 * (3 - 2 * level)
        self._curve = to_uint8(255 * curve)

    def look(self, image: Array, depth: Array, labels: Array) -> Array:
        clear = np.exp(-depth / np.float32(self._light.haze_m))
        clear[depth >= SKYLINE_M] = 1.0
        haze = self._light.horizon.astype(np.float32) * np.float32(0.92)
        hazy = haze + (image - haze) * clear[..., None]
        exposed = to_uint8(hazy * self._vignette * np.float32(self._light.exposure))
        toned = cv2.LUT(exposed, self._curve)
        soft = cv2.GaussianBlur(toned, (0, 0), 1.0)
        return cv2.addWeighted(toned, 1 + _SHARPENING, soft, -_SHARPENING, 0)


def _make_street(rng: Rng) -> Street:
    return Street(
        lanes=int(rng.choice((1, 1, 1, 2))),
        lane=float(rng.uniform(2.9, 3.5)),
        parking=float(rng.choice((0.0, 2.1))),
        pavement=float(rng.uniform(1.8, 3.6)),
        left_hand=bool(rng.random() < 0.6),
    )
