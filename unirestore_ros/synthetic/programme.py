"""The demo's programme: a drive that training never sees, degraded in stretches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TRAINING_SEEDS = range(0, 10_000)
DEMO_SEED = 20_012
RATE_HZ = 10.0


@dataclass(frozen=True)
class Stretch:
    """``degradation``: a name in driving.DEGRADATIONS; share of the frames."""

    name: str
    degradation: str
    severity: int
    share: float


STRETCHES = (
    Stretch("fog", "fog", 3, 0.2),
    Stretch("rain", "rain", 3, 0.2),
    Stretch("noise", "noise", 3, 0.2),
    Stretch("low_light", "low_light", 2, 0.2),
    Stretch("snow", "snow", 3, 0.2),
)


def stretch_of_each(count: int) -> list[Stretch]:
    """List the stretch of each of ``count`` frames: contiguous, shares rounded, none left out.

    Raises ValueError if there are fewer frames than stretches.
    """
    if count < len(STRETCHES):
        raise ValueError(f"the demo needs at least {len(STRETCHES)} frames, got {count}")
    ends = np.cumsum([stretch.share for stretch in STRETCHES])
    spare = count - len(STRETCHES)
    cuts = [round(spare * end) + index + 1 for index, end in enumerate(ends)]
    stretches: list[Stretch] = []
    for stretch, cut in zip(STRETCHES, cuts, strict=True):
        stretches += [stretch] * (cut - len(stretches))
    return stretches
