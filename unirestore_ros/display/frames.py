"""Frames that may be shown: what was made of each is made once, and kept as long as the frame."""

from __future__ import annotations

from collections import deque
from functools import cached_property

import cv2
import numpy as np

from unirestore_ros.msgs.camera_frame import CameraFrame
from unirestore_ros.msgs.compressed import encode_jpeg
from unirestore_ros.msgs.image_conversion import Pixels


class Held:
    """A frame, when it was taken, its pixels and its JPEG. For one thread, once it is held."""

    def __init__(self, frame: CameraFrame, captured: float) -> None:
        self.frame = frame
        self.captured = captured
        """Seconds of the steady clock."""
        self._jpegs: dict[tuple[int, int], bytes] = {}

    @cached_property
    def pixels(self) -> Pixels:
        """BGR (H,W,3), not to be written to: they may be the message's own. MalformedMessage where
        a compressed frame does not decode."""
        return self.frame.bgr(np.empty((self.frame.height, self.frame.width, 3), np.uint8))

    def jpeg(self, quality: int, widest: int) -> bytes:
        """Scaled down to ``widest`` pixels where it is wider."""
        key = quality, widest
        if key not in self._jpegs:
            self._jpegs = {key: encode_jpeg(no_wider(self.pixels, widest), quality).tobytes()}
        return self._jpegs[key]


def no_wider(pixels: Pixels, widest: int) -> Pixels:
    height, width = pixels.shape[:2]
    if width <= widest:
        return pixels
    size = widest, max(1, round(height * widest / width))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


class RecentFrames:
    """The camera's latest frames, so that a restored one can be shown beside its own."""

    def __init__(self, seconds: float, most_bytes: int = 64 << 20) -> None:
        self.seconds = seconds
        self._most_bytes = most_bytes
        self._bytes = 0
        self._held: deque[Held] = deque()

    def add(self, held: Held) -> None:
        self._held.append(held)
        self._bytes += len(held.frame.message)
        while len(self._held) > 1 and self._is_full(held.captured):
            self._bytes -= len(self._held.popleft().frame.message)

    def like(self, held: Held) -> Held | None:
        """The frame of the same stamp, or of the nearest; None where there is none."""
        stamp = held.frame.stamp_ns
        return min(self._held, key=lambda other: abs(other.frame.stamp_ns - stamp), default=None)

    def _is_full(self, now: float) -> bool:
        return self._bytes > self._most_bytes or now - self._held[0].captured > self.seconds
