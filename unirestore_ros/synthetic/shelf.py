"""The pictures of one town, made when first needed and kept while they are used."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import numpy as np

from unirestore_ros.synthetic import bodywork, facade, furniture, people, plants
from unirestore_ros.synthetic.canvas import Texture
from unirestore_ros.synthetic.light import Light
from unirestore_ros.synthetic.noise import blurred, generator, texture_noise, to_uint8
from unirestore_ros.synthetic.vehicle_shapes import Vehicle, faces_of, make_vehicle
from unirestore_ros.synthetic.vehicles import Mesh, make_mesh

T = TypeVar("T")
TREES = 5
SIGNS = 8
TRAFFIC_LIGHTS = 3
HOUSE_STYLES = 5
PEOPLE = 10
VEHICLES = 28


class Shelf(Generic[T]):
    """Keeps the latest ``capacity`` things; all are functions of their key."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        thing = make()
        self._kept[key] = thing
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return thing


class Pictures:
    """Textures by what they show; the same seed and light give the same ones."""

    def __init__(self, seed: int, light: Light) -> None:
        self._seed, self._light = seed, light
        rng = generator(seed, "season")
        self._bare = float(rng.choice((0.0, 0.0, 0.3, 1.0)))
        self._autumn = bool(rng.random() < 0.2)
        self._fronts: Shelf[Texture] = Shelf(48)
        self._small: Shelf[Texture] = Shelf(256)
        self._meshes: Shelf[Mesh] = Shelf(96)
        self._labelled: Shelf[tuple[Texture, np.ndarray]] = Shelf(SIGNS + TRAFFIC_LIGHTS)

    def style(self, kind: str, number: int) -> facade.FacadeStyle:
        return facade.make_style(self._seed, kind, number)

    def front(self, kind: str, number: int, width_m: float, storeys: int, facing: float) -> Texture:
        def make() -> Texture:
            rng = generator(self._seed, "front", kind, number, int(width_m), storeys)
            style = self.style(kind, number)
            light = self._light.on_wall(facing)
            return Texture(facade.make_facade(rng, style, width_m, storeys, light))

        return self._fronts.get((kind, number, width_m, storeys, facing), make)

    def roof(self, number: int, facing: float) -> Texture:
        def make() -> Texture:
            light = self._light.on_wall(facing) * 1.1
            return Texture(facade.make_roof(generator(self._seed, "roof", number), 8.0, light))

        return self._small.get(("roof", number, facing), make)

    def gable(self, kind: str, number: int, wall_m: float, roof_m: float) -> Texture:
        def make() -> Texture:
            rng = generator(self._seed, "gable", kind, number)
            style, light = self.style(kind, number), self._light.on_wall(0.0)
            return Texture(facade.make_gable(rng, style, wall_m, roof_m, light))

        return self._fronts.get(("gable", kind, number, wall_m, roof_m), make)

    def tree(self, number: int) -> Texture:
        def make() -> Texture:
            bare = generator(self._seed, "bare", number).random() < self._bare
            return Texture(plants.make_tree(self._seed, number, self._light, bare, self._autumn))

        return self._small.get(("tree", number), make)

    def hedge(self, number: int, facing: float) -> Texture:
        rng = generator(self._seed, "hedge", number)
        return self._small.get(
            ("hedge", number, facing), lambda: Texture(plants.make_hedge(rng, self._light, facing))
        )

    def railing(self, number: int, facing: float) -> Texture:
        rng = generator(self._seed, "railing", number)
        return self._small.get(
            ("railing", number, facing),
            lambda: Texture(furniture.make_railing(rng, self._light, facing)),
        )

    def lamp_post(self, mirrored: bool) -> Texture:
        def make() -> Texture:
            picture = furniture.make_lamp_post(self._seed, self._light)
            return Texture(picture[:, ::-1] if mirrored else picture)

        return self._small.get(("lamp", mirrored), make)

    def pole(self) -> Texture:
        return self._small.get(
            "pole", lambda: Texture(furniture.make_pole(self._seed, self._light))
        )

    def sign(self, number: int) -> tuple[Texture, np.ndarray]:
        def make() -> tuple[Texture, np.ndarray]:
            picture, labels = furniture.make_sign(self._seed, number, self._light)
            return Texture(picture), labels

        return self._labelled.get(("sign", number), make)

    def traffic_light(self, number: int) -> tuple[Texture, np.ndarray]:
        def make() -> tuple[Texture, np.ndarray]:
            picture, labels = furniture.make_traffic_light(self._seed, number, self._light)
            return Texture(picture), labels

        return self._labelled.get(("traffic light", number), make)

    def pedestrian(self, number: int, phase: int, towards: bool) -> Texture:
        return self._small.get(
            ("pedestrian", number, phase, towards),
            lambda: Texture(
                people.make_pedestrian(self._seed, number, phase, towards, self._light)
            ),
        )

    def cyclist(self, number: int, phase: int, towards: bool) -> Texture:
        return self._small.get(
            ("cyclist", number, phase, towards),
            lambda: Texture(people.make_cyclist(self._seed, number, phase, towards, self._light)),
        )

    def vehicle(self, number: int) -> Vehicle:
        return make_vehicle(self._seed, number)

    def mesh(self, vehicle: Vehicle, oncoming: bool) -> Mesh:
        def make() -> Mesh:
            rng = generator(self._seed, "bodywork", vehicle.number)
            kinds = ("flank", "tail", "glass")
            pictures = {kind: Texture(bodywork.make_detail(rng, kind)) for kind in kinds}
            heading = -1.0 if oncoming else 1.0
            return make_mesh(*faces_of(vehicle, self._light, heading), pictures)

        return self._meshes.get((vehicle.number, oncoming), make)

    def soft_shadow(self) -> Texture:
        """Under a vehicle: dark in the middle, soft at the rim."""

        def make() -> Texture:
            alpha = np.zeros((96, 64), np.float32)
            alpha[16:-16, 12:-12] = 205
            return Texture(_black(blurred(alpha, 7)))

        return self._small.get("soft shadow", make)

    def dapple(self) -> Texture:
        """Under a tree in the sun: blots of shadow, nothing when it is overcast."""

        def make() -> Texture:
            noise = texture_noise(generator(self._seed, "dapple"), 128, 128, 0.9)
            y, x = np.mgrid[-1:1:128j, -1:1:128j]
            inside = np.clip(1.4 - 1.5 * np.hypot(x, y), 0, 1)
            blots = np.clip(inside * 1.6 + 0.35 * noise - 0.35, 0, 1)
            return Texture(_black(blots * (130 * self._light.sun + 25)))

        return self._small.get("dapple", make)


def _black(alpha: np.ndarray) -> np.ndarray:
    picture = np.zeros((*alpha.shape, 4), np.uint8)
    picture[..., 3] = to_uint8(alpha)
    return picture
