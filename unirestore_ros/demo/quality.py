"""How near to the clean frames the restored ones are, beside the best that needs no network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from unirestore_ros.demo.record import Shown
from unirestore_ros.demo.spool import Spool
from unirestore_ros.evaluate.metrics import psnr

Restorer = Callable[[np.ndarray], np.ndarray]
"""(H, W, 3) uint8 RGB -> the same, restored by a classical method."""

_TRIED_FRAMES = 3


@dataclasses.dataclass(frozen=True)
class Quality:
    """Mean PSNR in dB to the clean frames; None where there are none."""

    degraded: float | None
    classical: float | None
    restored: float | None

    def as_dict(self) -> dict[str, float | None]:
        return {
            name: None if value is None else round(value, 2)
            for name, value in dataclasses.asdict(self).items()
        }


@dataclasses.dataclass(frozen=True)
class StretchReport:
    """One stretch of the drive; its PSNRs, frame by frame, are of the frames that came out."""

    name: str
    frames_in: int
    frames_out: int
    classical_method: str | None
    psnr: tuple[tuple[float, float, float], ...]
    """Degraded, classical, restored."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "frames_in": self.frames_in,
            "frames_out": self.frames_out,
            "classical_method": self.classical_method,
            "psnr_db": mean_quality(self.psnr).as_dict(),
        }


def mean_quality(rows: Sequence[tuple[float, float, float]]) -> Quality:
    """Means over the frames of (degraded, classical, restored)."""
    if not rows:
        return Quality(None, None, None)
    return Quality(*(float(value) for value in np.mean(rows, axis=0)))


def measure_stretch(
    spool: Spool,
    stretch: tuple[str, range],
    restored: Mapping[int, Shown],
    classical: Mapping[str, Restorer],
    advance: Callable[[], object],
) -> StretchReport:
    """PSNR of a stretch's restored frames, by index; ``advance`` is called after each."""
    name, indices = stretch
    out = [restored[index] for index in indices if index in restored]
    known = [shown for shown in out if spool.entries[shown.index].has_clean]
    method = best_classical(spool, [shown.index for shown in known], classical)
    rows = []
    if method is not None:
        for shown in known:
            rows.append(_qualities(spool, shown, classical[method]))
            advance()
    return StretchReport(name, len(indices), len(out), method, tuple(rows))


def best_classical(
    spool: Spool, indices: Sequence[int], methods: Mapping[str, Restorer]
) -> str | None:
    """Name of the method with the highest mean PSNR over a few of the frames, evenly spread."""
    if not indices:
        return None
    places = np.linspace(0, len(indices) - 1, min(_TRIED_FRAMES, len(indices)))
    tried = [indices[round(place)] for place in places]

    def mean_psnr(name: str) -> float:
        return float(np.mean([_classical_psnr(spool, index, methods[name]) for index in tried]))

    return max(methods, key=mean_psnr)


def _classical_psnr(spool: Spool, index: int, method: Restorer) -> float:
    return psnr(method(_swapped(spool.camera(index))), _swapped(spool.clean(index)))


def _qualities(spool: Spool, shown: Shown, method: Restorer) -> tuple[float, float, float]:
    return (
        psnr(spool.camera(shown.index), spool.clean(shown.index)),
        _classical_psnr(spool, shown.index, method),
        psnr(shown.picture(), spool.clean(shown.index)),
    )


def _swapped(picture: np.ndarray) -> np.ndarray:
    """BGR to RGB, contiguous."""
    return np.ascontiguousarray(picture[:, :, ::-1])
