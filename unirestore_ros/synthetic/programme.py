"""The demo's programme: a drive that training never sees, degraded in stretches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from unirestore_ros.synthetic.drive import Drive
from unirestore_ros.synthetic.driving import degrade, frame_rng

TRAINING_SEEDS = range(0, 10_000)
DEMO_SEED = 20_012
RATE_HZ = 10.0


@dataclass(frozen=True)
class Stretch:
    """``degradation``: a name in degrade.driving.DEGRADATIONS; share of the frames."""

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


@dataclass(frozen=True)
class DemoFrame:
    """clean, degraded: (H,W,3) uint8 RGB; stretch: its name; offset_s: seconds after the first."""

    clean: np.ndarray
    degraded: np.ndarray
    stretch: str
    offset_s: float


def demo_frames(
    count: int, size: tuple[int, int] = (480, 360), part: range | None = None
) -> Iterator[DemoFrame]:
    """``count`` frames at RATE_HZ through all stretches, each of at least one frame; or only those
    with an index in ``part``, so that several processes may share the work.

    Raises ValueError if there are fewer frames than stretches.
    """
    stretches = _stretch_of_each(count)
    drive = Drive(DEMO_SEED, size)
    for index in range(count) if part is None else part:
        stretch, offset = stretches[index], index / RATE_HZ
        frame = drive.frame(offset)
        rng = frame_rng(str(DEMO_SEED), stretch.degradation, index)
        degraded = degrade(frame.image, stretch.degradation, stretch.severity, rng, frame.depth)
        yield DemoFrame(frame.image, degraded, stretch.name, offset)


def _stretch_of_each(count: int) -> list[Stretch]:
    """The stretch of every frame: contiguous, shares rounded, none left out."""
    if count < len(STRETCHES):
        raise ValueError(f"the demo needs at least {len(STRETCHES)} frames, got {count}")
    ends = np.cumsum([stretch.share for stretch in STRETCHES])
    spare = count - len(STRETCHES)
    cuts = [round(spare * end) + index + 1 for index, end in enumerate(ends)]
    stretches: list[Stretch] = []
    for stretch, cut in zip(STRETCHES, cuts, strict=True):
        stretches += [stretch] * (cut - len(stretches))
    return stretches
