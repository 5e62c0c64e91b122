"""The size at which the network works on a camera's frames, and what it means for feature maps.

A frame is reduced to a *working size*, about as many pixels as the bundle was measured with, and
padded at the right and at the bottom to what the network divides by. Sizes are (width, height) in
pixels.
"""

from __future__ import annotations

import dataclasses
import itertools

Size = tuple[int, int]

LEAST_SIDE = 64
"""Shortest side of a frame, in pixels, where a bundle says nothing else."""
MOST_SIDE = 4096
MOST_ASPECT = 4.0
MOST_ASPECT_ERROR = 0.02
"""How far a working size may stretch the frame."""
LARGEST: Size = (1920, 1088)
"""Largest padded working size: that of the noise which is stored with the weights."""
_AROUND = (-2, -1, 0, 1, 2)
"""Multiples to try on either side of the ideal working size."""


@dataclasses.dataclass(frozen=True)
class FrameSizes:
    """A camera's frame, the working size that it is reduced to, and that padded."""

    frame: Size
    working: Size
    padded: Size

    @property
    def is_reduced(self) -> bool:
        """Tell whether the working size is another than the frame's own."""
        return self.frame != self.working

    def feature_size(self, stride: int) -> Size:
        """Return a feature map's size: at most a part of its last row and column is padding."""
        width, height = self.working
        return -(-width // stride), -(-height // stride)

    def feature_pitch(self, stride: int) -> tuple[float, float]:
        """Return width and height of a map's pixel, in pixels of the frame: pixel (u, v) covers
        [u*k, (u+1)*k) x [v*l, (v+1)*l)."""
        return (
            stride * self.frame[0] / self.working[0],
            stride * self.frame[1] / self.working[1],
        )


@dataclasses.dataclass(frozen=True)
class SizeRule:
    """How a bundle chooses the working size of a frame."""

    working_size: Size
    """Its pixels are the budget. A frame with no more is worked on at its own size."""
    shorter_side: int | None
    """Where given, the shorter side of every working size, whatever the budget."""
    stride: int
    """The coarsest feature stride: a reduced frame's sides are multiples of it."""
    multiple: int
    """What the network divides by: working sizes are padded to multiples of it."""
    least_side: int

    def sizes_for(self, frame: Size) -> FrameSizes:
        """Choose the working size of a frame; ValueError, with the reason, where it is refused."""
        if problem := frame_refusal(frame, self.least_side):
            raise ValueError(f"frames are {frame[0]}x{frame[1]}: {problem}")
        working = self._working_size(frame)
        padded = _padded(working, self.multiple)
        if padded[0] > LARGEST[0] or padded[1] > LARGEST[1]:
            raise ValueError(
                f"frames are {frame[0]}x{frame[1]}: their working size {padded[0]}x{padded[1]} is"
                f" over {LARGEST[0]}x{LARGEST[1]}"
            )
        return FrameSizes(frame, working, padded)

    def extremes(self) -> tuple[Size, Size, Size]:
        """Return a least, the usual and a largest padded working size: what TensorRT is to compile
        for. Every working size lies between them, side by side."""
        usual = self.sizes_for(self.working_size).padded
        if self.shorter_side is not None:
            least = _padded((self.shorter_side, self.shorter_side), self.multiple)
            return least, usual, LARGEST
        most = max(self.sizes_for((MOST_SIDE, round(MOST_SIDE / MOST_ASPECT))).padded)
        return _padded((self.least_side, self.least_side), self.multiple), usual, (most, most)

    def _working_size(self, frame: Size) -> Size:
        width, height = frame
        if self.shorter_side is not None:
            scale = self.shorter_side / min(frame)
            return _nearest(width * scale, self.stride), _nearest(height * scale, self.stride)
        budget = self.working_size[0] * self.working_size[1]
        if width * height <= budget:
            return frame
        scale = (budget / (width * height)) ** 0.5
        ideal = _nearest(width * scale, self.stride), _nearest(height * scale, self.stride)
        candidates = [
            (ideal[0] + self.stride * across, ideal[1] + self.stride * down)
            for across, down in itertools.product(_AROUND, repeat=2)
        ]

        def cost(size: Size) -> tuple[bool, float]:
            error = aspect_error(frame, size)
            return error > MOST_ASPECT_ERROR, error + abs(size[0] * size[1] / budget - 1)

        return min((size for size in candidates if min(size) > 0), key=cost)


def frame_refusal(frame: Size, least_side: int = LEAST_SIDE) -> str | None:
    """Say why no bundle takes frames of a size; None where one does."""
    if min(frame) < least_side or max(frame) > MOST_SIDE:
        return f"sides must be from {least_side} to {MOST_SIDE} pixels"
    if max(frame) > MOST_ASPECT * min(frame):
        return f"the longer side is over {MOST_ASPECT:g} times the shorter"
    return None


def aspect_error(frame: Size, working: Size) -> float:
    """Return the relative difference between two aspect ratios."""
    return abs((working[0] / working[1]) / (frame[0] / frame[1]) - 1.0)


def _padded(size: Size, multiple: int) -> Size:
    width, height = size
    return width + -width % multiple, height + -height % multiple


def _nearest(side: float, multiple: int) -> int:
    return max(round(side / multiple), 1) * multiple
