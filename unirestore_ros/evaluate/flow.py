"""Where each pixel of a frame was in the frame before, and how much a video changes besides."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

from unirestore_ros.evaluate.methods import Image

AGREEMENT_PX = 1.0
"""Forward and backward flow that differ by more are of something hidden, or wrong."""
Map = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Motion:
    """Places (H, W) in the frame before, and where they can be trusted."""

    x: Map
    y: Map
    known: NDArray[np.bool_]

    def error(self, before: Image, now: Image) -> float:
        """Mean absolute difference, in grey levels, of ``now`` and ``before`` moved to it."""
        moved = cv2.remap(before, self.x, self.y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        difference = np.abs(moved.astype(np.float32) - now).mean(axis=2)
        return float(difference[self.known].mean())


def motion(before: Image, now: Image) -> Motion:
    """From two clean RGB frames (H, W, 3), by dense inverse search (Kroeger et al., ECCV 2016)."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (before, now)]
    height, width = grey[0].shape
    back, forth = np.zeros((2, height, width, 2), np.float32)
    back = dis.calc(grey[1], grey[0], back)
    forth = dis.calc(grey[0], grey[1], forth)
    x: Map = np.arange(width, dtype=np.float32)[None, :] + back[..., 0].astype(np.float32)
    y: Map = np.arange(height, dtype=np.float32)[:, None] + back[..., 1].astype(np.float32)
    returned = cv2.remap(forth, x, y, cv2.INTER_LINEAR)
    agrees = np.linalg.norm(back + returned, axis=2) <= AGREEMENT_PX
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return Motion(x, y, agrees & inside)
