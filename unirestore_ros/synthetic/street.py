"""What stands along the street, block by block; any block can be built without the others."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np

from unirestore_ros.synthetic.canvas import Texture
from unirestore_ros.synthetic.frame import BUILDING, FENCE, POLE, TREE
from unirestore_ros.synthetic.ground import Street
from unirestore_ros.synthetic.noise import Array, Rng, generator
from unirestore_ros.synthetic.textures import (
    HOUSE_STYLES,
    SIGNS,
    TRAFFIC_LIGHTS,
    TREES,
    VEHICLES,
    Textures,
)
from unirestore_ros.synthetic.vehicle_shapes import Vehicle

CELL_M = 8.0
CELLS = 6
BLOCK_M = CELL_M * CELLS
KINDS = ("shops", "terrace", "houses", "office", "park")
HOUSE_DEPTH_M = 9.0
ROOF_M = 3.0
Ends = tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """A textured plane. corners: (4,3) of x, y, s; the texture's top left, top right, bottom right,
    bottom left; part: the columns of the texture that are shown, as shares of its width."""

    corners: Array
    texture: Texture
    label: int | None
    part: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Standing:
    """An upright image that faces the camera; x is its middle, y its foot."""

    texture: Texture
    x: float
    s: float
    width: float
    height: float
    label: int | Array
    counted: bool = False  # it has a box of its own


@dataclass(frozen=True)
class Parked:
    vehicle: Vehicle
    x: float
    s: float
    oncoming: bool


@dataclass
class Block:
    """One side of BLOCK_M of street."""

    panels: list[Panel] = field(default_factory=list)
    standing: list[Standing] = field(default_factory=list)
    parked: list[Parked] = field(default_factory=list)
    decals: list[Panel] = field(default_factory=list)
    heights: Array = field(default_factory=lambda: np.zeros(CELLS))  # of the fronts, by cell
    front: float = 0.0  # metres from the road's middle

    @functools.cached_property
    def corners(self) -> Array:
        """Stack the corners (P,4,3) of all panels."""
        return np.array([panel.corners for panel in self.panels]).reshape(-1, 4, 3)


class Town:
    """Builds blocks of one town. side: -1 left, +1 right."""

    def __init__(self, seed: int, street: Street, textures: Textures, shadow_reach: float) -> None:
        self._seed, self._street, self._textures = seed, street, textures
        self._shadow_reach = shadow_reach
        rng = generator(seed, "town")
        self._mix = rng.dirichlet((0.9, 0.8, 0.8, 0.4, 0.9))
        self._street_trees = float(rng.choice((0.0, 0.4, 0.9)))
        self._parked_share = float(rng.uniform(0.2, 0.9))

    def block(self, index: int, side: int) -> Block:
        rng = generator(self._seed, "block", index, side)
        # two blocks in a row are of one kind
        kind = str(generator(self._seed, "kind", index // 2, side).choice(KINDS, p=self._mix))
        block = Block()
        start = index * BLOCK_M
        if kind == "park":
            self._park(block, rng, start, side)
        else:
            self._houses(block, rng, kind, start, side)
        self._furniture(block, rng, start, side, index)
        if self._street.parking:
            self._parked_cars(block, rng, start, side)
        return block

    def _houses(self, block: Block, rng: Rng, kind: str, start: float, side: int) -> None:
        edge = self._street.pavement_edge
        setback = {"shops": 0.0, "office": 0.3, "terrace": 1.6, "houses": 4.0}[kind]
        block.front = edge + setback
        cell, neighbour = 0, 0.0
        while cell < CELLS:
            cells = min(int(rng.integers(1, 4)), CELLS - cell) if kind != "houses" else 1
            gap = (
                rng.random() < {"shops": 0.06, "office": 0.1, "terrace": 0.1, "houses": 0.35}[kind]
            )
            place = start + cell * CELL_M
            if gap:
                self._gap(block, rng, place, side)
                cells, neighbour = 1, 0.0
            else:
                height = self._house(block, rng, kind, place, cells, side, neighbour)
                neighbour = height
                block.heights[cell : cell + cells] = height
            cell += cells
        if setback > 1:
            self._front_gardens(block, rng, start, side)

    def _house(
        self,
        block: Block,
        rng: Rng,
        kind: str,
        start: float,
        cells: int,
        side: int,
        neighbour: float,
    ) -> float:
        """Build one house; returns its height at the front. neighbour: that of the one on this
        side."""
        number = int(rng.integers(HOUSE_STYLES))
        style = self._textures.style(kind, number)
        storeys = {
            "shops": int(rng.integers(3, 5)),
            "terrace": int(rng.integers(2, 5)),
            "houses": 2,
            "office": int(rng.integers(3, 7)),
        }[kind]
        height = storeys * style.storey_m + 0.5
        pitched = kind in ("terrace", "houses") or (kind == "shops" and number % 2 == 0)
        x, facing = side * block.front, -float(side)
        texture = self._textures.front(kind, number, cells * CELL_M, storeys, facing)
        for cell in range(cells):
            near, far = start + cell * CELL_M, start + (cell + 1) * CELL_M
            # on the right, the texture's left edge is the far one
            ends = (near, far) if side < 0 else (far, near)
            first = cell if side < 0 else cells - 1 - cell
            part = (first / cells, (first + 1) / cells)
            corners = along_road((x, x), (height, 0.0), ends)
            block.panels.append(Panel(corners, texture, BUILDING, part))
            if pitched:
                roof = self._textures.roof(number, facing)
                edges = (x + side * HOUSE_DEPTH_M / 2, x - side * 0.3)  # ridge and overhang
                slope = along_road(edges, (height + ROOF_M, height - 0.15), ends)
                block.panels.append(Panel(slope, roof, BUILDING))
        if neighbour < height - 0.3:  # else it hides the gable
            rise = ROOF_M if pitched else 0.0
            gable = self._textures.gable(kind, number, height, rise)
            depth = (min(x, x + side * HOUSE_DEPTH_M), max(x, x + side * HOUSE_DEPTH_M))
            corners = across_road(depth, (height + rise, 0.0), (start, start))
            block.panels.append(Panel(corners, gable, BUILDING))
        return height

    def _gap(self, block: Block, rng: Rng, start: float, side: int) -> None:
        """Fill a gap between houses: a fence or hedge, and trees behind it."""
        self._boundary(block, rng, start, side, block.front)
        for _ in range(int(rng.integers(1, 4))):
            self._tree(
                block, rng, side * (block.front + rng.uniform(2, 14)), start + rng.uniform(1, 7)
            )

    def _park(self, block: Block, rng: Rng, start: float, side: int) -> None:
        edge = self._street.pavement_edge
        block.front = edge
        for cell in range(CELLS):
            self._boundary(block, rng, start + cell * CELL_M, side, edge + 0.1)
            for _ in range(int(rng.integers(1, 4))):
                x = side * (edge + 1.5 + rng.gamma(1.6, 5.0))
                self._tree(block, rng, x, start + (cell + rng.random()) * CELL_M)

    def _front_gardens(self, block: Block, rng: Rng, start: float, side: int) -> None:
        edge = self._street.pavement_edge
        for cell in range(CELLS):
            place = start + cell * CELL_M
            if rng.random() < 0.8:
                self._boundary(block, rng, place, side, edge + 0.15)
            if block.front - edge > 3 and rng.random() < 0.5:
                self._tree(block, rng, side * (edge + 2.2), place + rng.uniform(1, 7), 0.6)

    def _boundary(self, block: Block, rng: Rng, start: float, side: int, x: float) -> None:
        number, facing = int(rng.integers(3)), -float(side)
        if rng.random() < 0.5:
            texture, label = self._textures.hedge(number, facing), TREE
            height = rng.uniform(0.9, 1.8)
        else:
            texture, label, height = self._textures.railing(number, facing), FENCE, 1.2
        ends = (start, start + CELL_M) if side < 0 else (start + CELL_M, start)
        corners = along_road((side * x, side * x), (height, 0.0), ends)
        block.panels.append(Panel(corners, texture, label))

    def _tree(self, block: Block, rng: Rng, x: float, s: float, size: float = 1.0) -> None:
        height = size * rng.uniform(6.5, 11.5)
        texture = self._textures.tree(int(rng.integers(TREES)))
        block.standing.append(Standing(texture, x, s, height, height, TREE))
        middle = x - self._shadow_reach * height * 0.6
        half = height * 0.4
        corners = across_road((middle - half, middle + half), (0.0, 0.0), (s + half, s - half))
        block.decals.append(Panel(corners, self._textures.dapple(), None))

    def _furniture(self, block: Block, rng: Rng, start: float, side: int, index: int) -> None:
        x = self._street.road_edge + 0.45
        if (index + (side > 0)) % 2 == 0:
            lamp = self._textures.lamp_post(side > 0)
            block.standing.append(Standing(lamp, side * x, start + 3.0, 2.0, 8.0, POLE))
        for _ in range(int(rng.poisson(1.3))):
            texture, labels = self._textures.sign(int(rng.integers(SIGNS)))
            place = start + rng.uniform(0, BLOCK_M)
            block.standing.append(Standing(texture, side * x, place, 1.0, 3.0, labels, True))
        if rng.random() < 0.22:
            texture, labels = self._textures.traffic_light(int(rng.integers(TRAFFIC_LIGHTS)))
            place = start + rng.uniform(0, BLOCK_M)
            block.standing.append(Standing(texture, side * x, place, 1.0, 3.4, labels, True))
        if rng.random() < 0.3:
            place = start + rng.uniform(0, BLOCK_M / 2)
            for step in range(int(rng.integers(3, 9))):
                post = Standing(self._textures.pole(), side * x, place + 2.5 * step, 0.3, 1.1, POLE)
                block.standing.append(post)
        for cell in range(0, CELLS, 2):
            if rng.random() < self._street_trees:
                s = start + (cell + rng.uniform(0.5, 1.5)) * CELL_M
                self._tree(block, rng, side * (x + 0.5), s, 0.8)

    def _parked_cars(self, block: Block, rng: Rng, start: float, side: int) -> None:
        x = side * (self._street.road_edge - 1.05)
        on_our_side = (side < 0) == self._street.left_hand
        for slot in range(7):
            if rng.random() < self._parked_share:
                vehicle = self._textures.vehicle(int(rng.integers(VEHICLES)))
                s = start + (slot + 0.5) * BLOCK_M / 7 + rng.uniform(-0.4, 0.4)
                block.parked.append(Parked(vehicle, x + rng.uniform(-0.1, 0.1), s, not on_our_side))


def along_road(x: Ends, y: Ends, s: Ends) -> Array:
    """Make the corners (4,3) of a quad whose upper and lower edges run along the road.

    x and y: metres at the upper and the lower edge; s: at the left and the right end.
    """
    return np.array(((x[0], x[0], x[1], x[1]), (y[0], y[0], y[1], y[1]), (*s, *s[::-1])), float).T


def across_road(x: Ends, y: Ends, s: Ends) -> Array:
    """The same across the road: x at the left and the right end, y and s at the two edges."""
    return np.array(((*x, *x[::-1]), (y[0], y[0], y[1], y[1]), (s[0], s[0], s[1], s[1])), float).T
