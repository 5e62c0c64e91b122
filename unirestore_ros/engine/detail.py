"""Between the camera's frame and the working size: reduce and pad it, and bring its detail back.

The image is ``enlarge(restored) + gain * (frame - enlarge(reduce(frame)))``, at the frame's size,
where a gain of nearly 1 counts as 1.
All of it is OpenCV on bytes and int16, in buffers that are allocated once for a camera: on a
1920x1080 frame, new memory for each result would cost more than the arithmetic.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unirestore_ros.engine.working_size import FrameSizes, Size

Pixels = NDArray[np.uint8]
_ONE = 256
"""A gain of 1, as the int16 that it is multiplied as."""
_MOST = 100.0
NEARLY_ALL = (0.6, 0.9)
"""A gain of the second and more counts as 1, at least; down to the first, gains are raised by less
and less."""


class DetailKeeper:
    """Reduces one frame after another of a size to the working size, and fuses what was restored
    with the detail that only the frame has."""

    def __init__(self, sizes: FrameSizes) -> None:
        self.sizes = sizes
        (width, height), (padded_width, padded_height) = sizes.working, sizes.padded
        self._padded: Pixels = np.empty((padded_height, padded_width, 3), np.uint8)
        self._working = self._padded[:height, :width]
        self._cropped: Pixels = np.empty((height, width, 3), np.uint8)
        ratios = [f / w for f, w in zip(sizes.frame, sizes.working, strict=True)]
        steps = max(math.ceil(max(ratios) / 2), 1)
        self._between = self._buffer((width * steps, height * steps), np.uint8)
        self._steps = steps
        self._frame = self._buffer(sizes.frame, np.uint8) if sizes.is_reduced else self._working
        # Made when they are first needed: a camera of the working size never needs them.
        self._fused: Pixels | None = None
        self._first: NDArray[np.int16] | None = None
        self._second: NDArray[np.int16] | None = None

    def reduce(self, frame: Pixels) -> Pixels:
        """Copy a frame (H, W, 3) uint8 RGB, and return it reduced and padded by reflection.

        The result (h, w, 3) is valid until the next call.
        """
        np.copyto(self._frame, frame)
        if self.sizes.is_reduced:
            self._reduce()
        _pad_by_reflection(self._padded, self.sizes.working)
        return self._padded

    def _reduce(self) -> None:
        """Reduce by at most 2 linearly, then average over whole pixels: every pixel is read.

        OpenCV's INTER_AREA for other than whole factors takes ten times as long.
        """
        if self._steps == 1:
            self._working[:] = _resized(self._frame, self.sizes.working)
            return
        size = self._between.shape[1], self._between.shape[0]
        cv2.resize(self._frame, size, dst=self._between, interpolation=cv2.INTER_LINEAR)
        self._working[:] = cv2.resize(
            self._between, self.sizes.working, dst=self._cropped, interpolation=cv2.INTER_AREA
        )

    def fuse(self, restored: Pixels, gain: NDArray[np.float32] | None) -> Pixels:
        """Fuse the restored image with the last frame's detail.

        ``restored``: (h, w, 3) uint8 RGB of the padded working size; ``gain``: (h, w, 1) float32,
        at least 0, None for 1 everywhere. Returns (H, W, 3) uint8, read-only, until the next call.
        """
        width, height = self.sizes.working
        restored = restored[:height, :width]
        if not self.sizes.is_reduced:
            image = restored
            if not restored.flags.c_contiguous:
                np.copyto(self._cropped, restored)
                image = self._cropped
        elif gain is None:
            image = self._with_all_detail(restored)
        else:
            image = self._with_detail(restored, gain[:height, :width, 0])
        view = image.view()
        view.flags.writeable = False
        return view

    def _with_all_detail(self, restored: Pixels) -> Pixels:
        """Fuse with a gain of 1: enlarge what restoration changed, and add it to the frame."""
        change = cv2.subtract(restored, self._working, dtype=cv2.CV_16S)
        image, enlarged, _ = self._buffers()
        cv2.resize(change, self.sizes.frame, dst=enlarged, interpolation=cv2.INTER_LINEAR)
        return _array(cv2.add(self._frame, enlarged, dst=image, dtype=cv2.CV_8U))

    def _with_detail(self, restored: Pixels, gain: NDArray[np.float32]) -> Pixels:
        image, detail, gains = self._buffers()
        size, linear = self.sizes.frame, cv2.INTER_LINEAR
        cv2.resize(self._working, size, dst=image, interpolation=linear)
        cv2.subtract(self._frame, image, dst=detail, dtype=cv2.CV_16S)
        levels = np.rint(np.minimum(settled(gain), _MOST) * _ONE).astype(np.int16)
        cv2.resize(cv2.merge([levels] * 3), size, dst=gains, interpolation=linear)
        cv2.multiply(detail, gains, dst=detail, scale=1 / _ONE)
        cv2.resize(restored, size, dst=image, interpolation=linear)
        return _array(cv2.add(image, detail, dst=image, dtype=cv2.CV_8U))

    def _buffers(self) -> tuple[Pixels, NDArray[np.int16], NDArray[np.int16]]:
        if self._fused is None or self._first is None or self._second is None:
            self._fused = self._buffer(self.sizes.frame, np.uint8)
            self._first = self._buffer(self.sizes.frame, np.int16)
            self._second = self._buffer(self.sizes.frame, np.int16)
        return self._fused, self._first, self._second

    @staticmethod
    def _buffer(size: Size, dtype: Any) -> NDArray[Any]:
        return np.empty((size[1], size[0], 3), dtype)


def settled(gain: NDArray[np.float32]) -> NDArray[np.float32]:
    """Raise gains (h, w) that are nearly 1.

    Of a clean frame the network is nearly sure: its gains are 0.8 to 1 there, and those of noise
    mostly under 0.5. But detail of 0.85 has 72 % of its Laplacian energy left.
    """
    low, high = NEARLY_ALL
    raised = low + (gain - low) * np.float32((1 - low) / (high - low))
    return np.maximum(gain, np.minimum(raised, 1))


def pad_to_multiple(frame: Pixels, multiple: int) -> Pixels:
    """Pad a frame (H, W, 3) by reflection, right and bottom, to sides that are multiples."""
    height, width = frame.shape[:2]
    below, beside = -height % multiple, -width % multiple
    padded = np.empty((height + below, width + beside, 3), np.uint8)
    padded[:height, :width] = frame
    _pad_by_reflection(padded, (width, height))
    return padded


def _pad_by_reflection(padded: Pixels, size: Size) -> None:
    """Fill what lies right of and below the image with its reflection, the border not repeated."""
    width, height = size
    below, beside = padded.shape[0] - height, padded.shape[1] - width
    if below:
        padded[height:, :width] = padded[height - 1 - below : height - 1, :width][::-1]
    if beside:
        padded[:, width:] = padded[:, width - 1 - beside : width - 1][:, ::-1]


def _resized(image: Pixels, size: Size) -> Pixels:
    """Resize by less than 2: linearly, or, to more than the image has, cubically."""
    enlarging = size[0] > image.shape[1]
    method = cv2.INTER_CUBIC if enlarging else cv2.INTER_LINEAR
    return _array(cv2.resize(image, size, interpolation=method))


def _array(image: Any) -> Pixels:
    return np.asarray(image, np.uint8)
