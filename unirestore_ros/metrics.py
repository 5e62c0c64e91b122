"""Fidelity of an image to its reference, in numpy alone: what the demo and ``evaluate`` share."""

from __future__ import annotations

import numpy as np

PSNR_CAP_DB = 100.0


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 images of one shape, over all channels.

    Identical images have an infinite ratio; PSNR_CAP_DB stands for it, so that means stay finite.
    (The least error of a 480x360 frame, one level in one channel, is 105 dB and capped too.)
    """
    if image.shape != reference.shape:
        raise ValueError(f"shapes differ: {image.shape} and {reference.shape}")
    if image.dtype != np.uint8 or reference.dtype != np.uint8:
        raise ValueError(f"need uint8 images, got {image.dtype} and {reference.dtype}")
    error = float(np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2))
    if error == 0.0:
        return PSNR_CAP_DB
    return min(PSNR_CAP_DB, 10.0 * float(np.log10(255.0**2 / error)))
