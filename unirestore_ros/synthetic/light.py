"""Time of day and weather of a clear drive: what lights the town, decided by the seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unirestore_ros.synthetic.noise import generator


@dataclass(frozen=True)
class Light:
    """sun: 0 overcast to 1 bright; side: where the sun stands, -1 left, +1 right;
    shadow_reach: metres of shadow across the road for each metre of height; colours are RGB in
    [0, 1] for the shaded and the sunlit face, 0 to 255 for sky and haze."""

    sun: float
    side: float
    shadow_reach: float
    shade: np.ndarray
    sunlit: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    cloud_cover: float
    haze_m: float
    exposure: float

    def on_wall(self, facing: float) -> np.ndarray:
        """Light on a wall that faces left (-1), right (+1) or the camera (0)."""
        share = np.clip(0.25 + 0.75 * self.side * facing if facing else 0.45, 0.0, 1.0)
        return self.shade + (self.sunlit - self.shade) * self.sun * share


def make_light(seed: int) -> Light:
    rng = generator(seed, "light")
    sun = float(np.clip(rng.beta(1.3, 1.0), 0.02, 1.0))
    low = rng.random() * sun  # 1: a low, warm sun
    warm = np.array((1.0, 1.0 - 0.08 * low, 1.0 - 0.22 * low))
    blue = rng.uniform(0.82, 1.08)
    clear = np.array((128, 182, 238)) * blue
    grey = np.array((216, 221, 227)) * rng.uniform(0.82, 1.05)
    cover = float(np.clip(1.05 - sun + rng.normal(0, 0.15), 0.05, 1.0))
    overcast = np.clip((cover - 0.5) * 2, 0, 1)
    return Light(
        sun=sun,
        side=float(rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 1.0)),
        shadow_reach=float(rng.uniform(0.25, 0.6) + 0.9 * low),
        shade=np.array((0.52, 0.56, 0.64)) + (1 - sun) * np.array((0.30, 0.27, 0.20)),
        sunlit=warm * 1.2,
        zenith=clear + (grey * 0.9 - clear) * overcast,
        horizon=np.array((240, 244, 248)) * rng.uniform(0.92, 1.06) * warm**0.5,
        cloud_cover=cover,
        haze_m=float(rng.uniform(350, 1400)),
        exposure=float(rng.uniform(0.88, 1.2)),
    )
