"""Where the camera is and how it sees.

World: s metres along the road, x metres to the right of its middle, y metres up. The road may bend:
its middle lies at ``bend(s)`` metres sideways. Seen from s0 a bend is a shear (small angles), so
that everything at one s keeps one depth: z = s - s0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEAR_M = 0.7


@dataclass(frozen=True)
class Bend:
    """The road's sideways course: a sum of long waves."""

    amplitudes: np.ndarray
    lengths: np.ndarray
    phases: np.ndarray

    def __call__(self, s: np.ndarray | float) -> np.ndarray:
        angle = 2 * np.pi * np.asarray(s)[..., None] / self.lengths + self.phases
        return (self.amplitudes * np.sin(angle)).sum(axis=-1)

    def slope(self, s: np.ndarray | float) -> np.ndarray:
        angle = 2 * np.pi * np.asarray(s)[..., None] / self.lengths + self.phases
        return (self.amplitudes * 2 * np.pi / self.lengths * np.cos(angle)).sum(axis=-1)


@dataclass(frozen=True)
class Camera:
    """A pinhole on the canvas: focal length, principal column and horizon row in canvas pixels."""

    s: float
    x: float
    height: float
    focal: float
    column: float
    horizon: float
    bend: Bend

    def sideways(self, s: np.ndarray | float) -> np.ndarray:
        """How far the road's middle at s lies to the right of the camera's straight course."""
        ahead = np.asarray(s) - self.s
        return self.bend(s) - self.bend(self.s) - self.bend.slope(self.s) * ahead - self.x

    def project(self, x: np.ndarray, y: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Canvas points (N,2) and inverse depths (N,); what is nearer than NEAR_M is put there."""
        inverse = 1.0 / np.maximum(np.asarray(s, float) - self.s, NEAR_M)
        across = (np.asarray(x) + self.sideways(s)) * self.focal * inverse + self.column
        down = self.horizon - (np.asarray(y) - self.height) * self.focal * inverse
        return np.stack(np.broadcast_arrays(across, down), axis=-1), inverse
