"""Fitting a picture to a bundle's input size: aspect kept, what sticks out cropped evenly."""

from __future__ import annotations

import cv2
import numpy as np

Size = tuple[int, int]  # (width, height) in pixels


def scaled_size(source: Size, target: Size) -> Size:
    """Size of ``source`` scaled, aspect kept, until it just covers ``target``."""
    factor = max(target[0] / source[0], target[1] / source[1])
    return max(target[0], round(source[0] * factor)), max(target[1], round(source[1] * factor))


def fit(image: np.ndarray, target: Size) -> np.ndarray:
    """(H, W, 3) uint8 scaled to cover ``target`` and cropped at the centre to it."""
    source = image.shape[1], image.shape[0]
    if source == target:
        return image
    scaled = scaled_size(source, target)
    shrinking = scaled[0] < source[0]
    resized = cv2.resize(
        image, scaled, interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
    )
    left, top = (scaled[0] - target[0]) // 2, (scaled[1] - target[1]) // 2
    return np.ascontiguousarray(resized[top : top + target[1], left : left + target[0]])


def description(source: Size, target: Size, name: str = "the bundle's input size") -> str:
    """What ``fit`` does to pictures of this size, in words for the user; ``name``: what the target
    is."""
    if source == target:
        return f"frames are {target[0]}x{target[1]}, {name}: nothing is scaled"
    scaled = scaled_size(source, target)
    words = f"frames are scaled from {source[0]}x{source[1]} to {scaled[0]}x{scaled[1]}"
    if scaled == target:
        return f"{words}, {name}"
    return f"{words} and cropped at the centre to {name} {target[0]}x{target[1]}"
