"""What an image is degraded by: ImageNet-C's corruptions, the road's, and mixtures of these.

A name here is what a row carries. ImageNet-C's have their own (``fog``); the road's are written
``driving/fog``, since three of them share a name with one of ImageNet-C; a mixture's is its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from unirestore_ros.evaluate.methods import Image
from unirestore_ros.synthetic import driving
from unirestore_ros.synthetic.corruptions import COMMON, FAMILIES, VALIDATION, corrupt, seed_of
from unirestore_ros.synthetic.driving import MIXTURES, mix
from unirestore_ros.train.prepare import HELD_OUT

_DRIVING = "driving/"
DRIVING = tuple(_DRIVING + name for name in driving.DEGRADATIONS)
GROUPS: dict[str, tuple[str, ...]] = {
    "common": COMMON,
    "validation": VALIDATION,
    "driving": DRIVING,
    "mixtures": tuple(MIXTURES),
    "held_out": (f"{_DRIVING}{HELD_OUT}",),
}
SHOWN_FAMILIES: dict[str, tuple[str, ...]] = {
    **FAMILIES,
    "validation": VALIDATION,
    "driving": DRIVING,
    "mixtures": tuple(MIXTURES),
}
"""How tables and figures group them: the common corruptions in their three families."""


@dataclasses.dataclass(frozen=True)
class Conditions:
    """Corruptions in their order (None: clean input), all at one severity."""

    corruptions: tuple[str | None, ...]
    severity: int


def chosen(text: str) -> tuple[str, ...]:
    """Resolve ``common,driving/rain`` to names; ValueError for one that is not known."""
    names: list[str] = []
    for word in text.split(","):
        names += [name for name in _meant(word) if name not in names]
    return tuple(names)


def _meant(word: str) -> tuple[str, ...]:
    if word in GROUPS:
        return GROUPS[word]
    for name in (word, _DRIVING + word):
        if any(name in group for group in GROUPS.values()):
            return (name,)
    known = ", ".join(name for group in GROUPS.values() for name in group)
    raise ValueError(f"corruption {word!r} is not known: {', '.join(GROUPS)}, or {known}")


def degraded(clean: Image, name: str, severity: int, file_name: str) -> Image:
    """Degrade an RGB uint8 image (H, W, 3), seeded by file name, corruption and severity.

    Its depth is ``driving.proxy_depth``.
    """
    if name in MIXTURES:
        return mix(clean, name, severity, lambda part: _rng(file_name, f"{name}/{part}", severity))
    if name in DRIVING:
        kind, rng = name.removeprefix(_DRIVING), _rng(file_name, name, severity)
        return driving.degrade(clean, kind, severity, rng)
    return corrupt(clean, name, severity, file_name)


def _rng(file_name: str, name: str, severity: int) -> np.random.Generator:
    return np.random.default_rng(seed_of(file_name, name, severity))


def groups_of(corruptions: Iterable[str | None]) -> dict[str, tuple[str, ...]]:
    """List the groups that occur, with what occurs of each."""
    present = set(corruptions)
    found = {group: tuple(n for n in names if n in present) for group, names in GROUPS.items()}
    return {group: names for group, names in found.items() if names}
