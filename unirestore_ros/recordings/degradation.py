"""`DEGRADE=NAME`: what is done to each frame of a clean INPUT before the camera sends it."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable

import numpy as np

from unirestore_ros.recordings.errors import MediaError
from unirestore_ros.synthetic import corruptions, driving, mixtures

Degrade = Callable[[np.ndarray, int], np.ndarray]
"""(frame, its number) -> degraded frame; both (H, W, 3) uint8 RGB."""

_BENCHMARK = "imagenet_c/"
_SEED = "demo"


def degradation(name: str, severity: int) -> Degrade:
    """The degradation of that name; MediaError lists the names where there is none.

    A name that both the driving weather and ImageNet-C have means the weather;
    ``imagenet_c/NAME`` means the benchmark's. The same frame number has the same pixels each time.
    """
    bare = name.removeprefix(_BENCHMARK)
    if name in driving.DEGRADATIONS:
        return lambda frame, number: driving.degrade(
            frame, name, severity, driving.frame_rng(_SEED, name, number)
        )
    if name in mixtures.MIXTURES:
        return lambda frame, number: mixtures.mix_frame(frame, name, severity, _SEED, number)
    if bare in corruptions.COMMON + corruptions.VALIDATION:
        _need_benchmark(name)
        return lambda frame, number: corruptions.corrupt(frame, bare, severity, f"{_SEED} {number}")
    raise MediaError(_refusal(name))


def _need_benchmark(name: str) -> None:
    if importlib.util.find_spec("imagecorruptions") is None:
        raise MediaError(
            f"DEGRADE={name} is a corruption of ImageNet-C and needs imagecorruptions-imaug:"
            " `make test` installs it; without it there are "
            + ", ".join([*driving.DEGRADATIONS, *mixtures.MIXTURES])
        )


def _refusal(name: str) -> str:
    driven = (*driving.DEGRADATIONS, *mixtures.MIXTURES)
    names = [*driven, *corruptions.COMMON, *corruptions.VALIDATION]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"there is no degradation {name!r}.{hint} There are: {', '.join(dict.fromkeys(names))}"
