"""The textures of one town, made when first needed; the latest are kept."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from unirestore_ros.synthetic import facade, furniture, people
from unirestore_ros.synthetic.canvas import Texture
from unirestore_ros.synthetic.noise import Array, blurred, generator, texture_noise, to_uint8
from unirestore_ros.synthetic.sky import Light
from unirestore_ros.synthetic.vehicle_shapes import Vehicle, faces_of, make_vehicle
from unirestore_ros.synthetic.vehicles import Mesh, make_detail, make_mesh

TREES = 5
SIGNS = 8
TRAFFIC_LIGHTS = 3
HOUSE_STYLES = 5
PEOPLE = 10
VEHICLES = 28


class Textures:
    """Textures by what they show: the same seed and light give the same ones.

    ``kind`` and ``number`` choose a style; ``facing``: -1 left, 1 right, 0 towards the camera.
    """

    def __init__(self, seed: int, light: Light) -> None:
        self._seed, self._light = seed, light
        rng = generator(seed, "season")
        self._bare = float(rng.choice((0.0, 0.0, 0.3, 1.0)))
        self._autumn = bool(rng.random() < 0.2)
        # Fronts are the largest. All are functions of their arguments, so that what is made again
        # is the same.
        self.front = lru_cache(36)(self._front)
        self.gable = lru_cache(12)(self._gable)
        self.roof = lru_cache(32)(self._roof)
        self.tree = lru_cache(TREES)(self._tree)
        self.hedge = lru_cache(32)(self._hedge)
        self.railing = lru_cache(32)(self._railing)
        self.lamp_post = lru_cache(2)(self._lamp_post)
        self.pole = lru_cache(1)(self._pole)
        self.sign = lru_cache(SIGNS)(self._sign)
        self.traffic_light = lru_cache(TRAFFIC_LIGHTS)(self._traffic_light)
        self.pedestrian = lru_cache(2 * PEOPLE * people.PHASES)(self._pedestrian)
        self.cyclist = lru_cache(2 * PEOPLE * people.PHASES)(self._cyclist)
        self.mesh = lru_cache(96)(self._mesh)
        self.soft_shadow = lru_cache(1)(self._soft_shadow)
        self.dapple = lru_cache(1)(self._dapple)

    def style(self, kind: str, number: int) -> facade.FacadeStyle:
        return facade.make_style(self._seed, kind, number)

    def vehicle(self, number: int) -> Vehicle:
        return make_vehicle(self._seed, number)

    def _front(
        self, kind: str, number: int, width_m: float, storeys: int, facing: float
    ) -> Texture:
        rng = generator(self._seed, "front", kind, number, int(width_m), storeys)
        style, light = self.style(kind, number), self._light.on_wall(facing)
        return Texture(facade.make_facade(rng, style, width_m, storeys, light))

    def _roof(self, number: int, facing: float) -> Texture:
        light = self._light.on_wall(facing) * 1.1
        return Texture(facade.make_roof(generator(self._seed, "roof", number), 8.0, light))

    def _gable(self, kind: str, number: int, wall_m: float, roof_m: float) -> Texture:
        rng = generator(self._seed, "gable", kind, number)
        style, light = self.style(kind, number), self._light.on_wall(0.0)
        return Texture(facade.make_gable(rng, style, wall_m, roof_m, light))

    def _tree(self, number: int) -> Texture:
        bare = generator(self._seed, "bare", number).random() < self._bare
        return Texture(furniture.make_tree(self._seed, number, self._light, bare, self._autumn))

    def _hedge(self, number: int, facing: float) -> Texture:
        rng = generator(self._seed, "hedge", number)
        return Texture(furniture.make_hedge(rng, self._light, facing))

    def _railing(self, number: int, facing: float) -> Texture:
        rng = generator(self._seed, "railing", number)
        return Texture(furniture.make_railing(rng, self._light, facing))

    def _lamp_post(self, mirrored: bool) -> Texture:
        image = furniture.make_lamp_post(self._seed, self._light)
        return Texture(image[:, ::-1] if mirrored else image)

    def _pole(self) -> Texture:
        return Texture(furniture.make_pole(self._seed, self._light))

    def _sign(self, number: int) -> tuple[Texture, Array]:
        image, labels = furniture.make_sign(self._seed, number, self._light)
        return Texture(image), labels

    def _traffic_light(self, number: int) -> tuple[Texture, Array]:
        image, labels = furniture.make_traffic_light(self._seed, number, self._light)
        return Texture(image), labels

    def _pedestrian(self, number: int, phase: int, towards: bool) -> Texture:
        return Texture(people.make_pedestrian(self._seed, number, phase, towards, self._light))

    def _cyclist(self, number: int, phase: int, towards: bool) -> Texture:
        return Texture(people.make_cyclist(self._seed, number, phase, towards, self._light))

    def _mesh(self, number: int, oncoming: bool) -> Mesh:
        rng = generator(self._seed, "bodywork", number)
        details = {kind: Texture(make_detail(rng, kind)) for kind in ("flank", "tail", "glass")}
        heading = -1.0 if oncoming else 1.0
        return make_mesh(*faces_of(self.vehicle(number), self._light, heading), details)

    def _soft_shadow(self) -> Texture:
        """Draw the shadow under a vehicle: dark in the middle, soft at the rim."""
        alpha = np.zeros((96, 64), np.float32)
        alpha[16:-16, 12:-12] = 205
        return Texture(_black(blurred(alpha, 7)))

    def _dapple(self) -> Texture:
        """Draw the shadow under a tree in the sun: blots, nearly nothing when it is overcast."""
        noise = texture_noise(generator(self._seed, "dapple"), 128, 128, 0.9)
        y, x = np.mgrid[-1:1:128j, -1:1:128j]
        inside = np.clip(1.4 - 1.5 * np.hypot(x, y), 0, 1)
        blots = np.clip(inside * 1.6 + 0.35 * noise - 0.35, 0, 1)
        return Texture(_black(blots * (130 * self._light.sun + 25)))


def _black(alpha: Array) -> Array:
    """Make a black RGBA image (H,W,4) with this alpha (H,W), 0 to 255."""
    image = np.zeros((*alpha.shape, 4), np.uint8)
    image[..., 3] = to_uint8(alpha)
    return image
