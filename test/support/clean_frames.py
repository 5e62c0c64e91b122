"""A clean frame of the synthetic drive, the sizes that cameras have, and what must remain of it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from unirestore_ros.engine.working_size import Size
from unirestore_ros.synthetic.drive import Drive
from unirestore_ros.synthetic.programme import DEMO_SEED

SIZES: dict[Size, Size] = {
    (64, 64): (64, 64),
    (322, 200): (322, 200),
    (480, 360): (480, 360),
    (640, 480): (480, 360),
    (752, 480): (520, 336),
    (1280, 720): (552, 312),
    (1920, 1080): (552, 312),
    (1920, 1200): (528, 328),
    (3840, 2160): (552, 312),
}
"""Frames, and the working size of each in `tiny`."""
LEAST_DB, LEAST_ENERGY = 34.0, 0.9
"""What must remain of a clean frame: fidelity, and the share of its Laplacian energy."""


def clean_scene() -> NDArray[np.uint8]:
    """A clean frame of the synthetic drive, (540, 960, 3) RGB."""
    return Drive(DEMO_SEED, (960, 540)).frame(0.0).image


def laplacian_energy(rgb: NDArray[np.uint8]) -> float:
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float64)
    return float((cv2.Laplacian(grey, cv2.CV_64F) ** 2).mean())
