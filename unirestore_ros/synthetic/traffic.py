"""Who moves along the street at a time t: cars, cyclists and pedestrians, endless both ways.

Each stream is a row of numbered slots that moves at one speed; a number decides what is in its
slot, so any moment can be asked for without the ones before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from unirestore_ros.synthetic.frame import BICYCLIST, PEDESTRIAN
from unirestore_ros.synthetic.ground import Street
from unirestore_ros.synthetic.noise import generator, sway
from unirestore_ros.synthetic.people import PHASES
from unirestore_ros.synthetic.shelf import PEOPLE, VEHICLES, Pictures
from unirestore_ros.synthetic.street import Parked, Standing

SPEED_M_PER_S = 9.0
VIEW_M = 130.0


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
    def __init__(self, seed: int, street: Street, pictures: Pictures) -> None:
        self._seed, self._pictures = seed, pictures
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
                vehicle = self._pictures.vehicle(int(rng.integers(VEHICLES)))
                yield Parked(vehicle, stream.x, s, stream.speed < 0)
        if self._lead:
            ahead = self._lead_gap + 26 * (1 + sway(t, self._phases, (37.0, 61.0)))
            yield Parked(self._pictures.vehicle(VEHICLES), self.lane_x, camera_s + ahead, False)

    def people(self, t: float, camera_s: float) -> Iterator[Standing]:
        for stream in self._walkers:
            for slot, s, rng in self._slots(stream, t, camera_s):
                x = stream.x + rng.uniform(-1, 1) * stream.spread
                phase = int(t * 1.9 * PHASES / 2 + 3 * slot) % PHASES
                number, size = int(rng.integers(PEOPLE)), rng.uniform(0.88, 1.06)
                texture = self._pictures.pedestrian(number, phase, stream.speed < 0)
                yield Standing(texture, x, s, size, 1.9 * size, PEDESTRIAN, True)
        for stream in self._cyclists:
            for slot, s, rng in self._slots(stream, t, camera_s):
                phase = int(t * 1.2 * PHASES + 3 * slot) % PHASES
                number = int(rng.integers(PEOPLE))
                texture = self._pictures.cyclist(number, phase, stream.speed < 0)
                yield Standing(texture, stream.x, s, 1.0, 1.9, BICYCLIST, True)

    def _slots(
        self, stream: Stream, t: float, camera_s: float
    ) -> Iterator[tuple[int, float, np.random.Generator]]:
        """Taken slots in view: number, place along the road now, and the slot's own generator."""
        origin = stream.speed * t
        first = int(np.floor((camera_s - origin) / stream.spacing)) - 1
        for slot in range(first, first + int(VIEW_M / stream.spacing) + 3):
            rng = generator(self._seed, stream.name, slot)
            if rng.random() < stream.share:
                place = (slot + rng.uniform(0.15, 0.6)) * stream.spacing + origin
                if place > camera_s:
                    yield slot, place, rng
