"""Frames, boxes and labels that have arrived, and a snapshot of what is to be shown now."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import cv2
import numpy as np

from unirestore_ros.display.overlay import Area, Boxes
from unirestore_ros.display.selection import FrameSelector, Selected, StatusMatcher, StatusReport
from unirestore_ros.msgs.camera_frame import CameraFrame
from unirestore_ros.msgs.compressed import encode_jpeg
from unirestore_ros.msgs.encodings import Pixels

# Boxes and labels are kept for this many frames: they arrive after the frame or before it.
_KEPT_OVERLAYS = 16
# Boxes and labels further than this from the shown frame are left out: the car has moved on.
_OVERLAY_WITHIN_S = 0.25
Overlay = TypeVar("Overlay", Boxes, Area)


class BufferedFrame:
    """A frame with its decoded pixels and JPEG, each made once, when first needed.

    Not safe for several threads: only the compositor's reads pixels.
    """

    def __init__(self, frame: CameraFrame, captured: float, age_note: str = "") -> None:
        """``captured``: when the camera took it, in seconds of the steady clock; where that is
        unknown, when it arrived, and ``age_note`` says so."""
        self.frame = frame
        self.captured = captured
        self.age_note = age_note
        self.refused = frame.unsupported
        """Why it cannot be shown; None until decoding it fails."""
        self._jpegs: dict[tuple[int, int], bytes] = {}

    @cached_property
    def pixels(self) -> Pixels:
        """BGR (H,W,3) uint8, read-only: it may be the message's own memory.

        Raises MalformedMessage where a compressed frame does not decode.
        """
        return self.frame.bgr(np.empty((self.frame.height, self.frame.width, 3), np.uint8))

    def jpeg(self, quality: int, max_width: int) -> bytes:
        """Encode as JPEG, scaled down to ``max_width`` pixels where the frame is wider."""
        key = quality, max_width
        if key not in self._jpegs:
            pixels = self.pixels
            height, width = pixels.shape[:2]
            if width > max_width:
                size = max_width, max(1, round(height * max_width / width))
                pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
            self._jpegs = {key: encode_jpeg(pixels, quality).tobytes()}
        return self._jpegs[key]


class FrameHistory:
    """The camera's latest frames, so that a restored frame can be shown beside its own input."""

    def __init__(self, seconds: float, max_bytes: int = 64 << 20) -> None:
        self.seconds = seconds
        self._max_bytes = max_bytes
        self._bytes = 0
        self._frames: deque[BufferedFrame] = deque()

    def add(self, frame: BufferedFrame) -> None:
        self._frames.append(frame)
        self._bytes += len(frame.frame.message)
        while len(self._frames) > 1 and (
            self._bytes > self._max_bytes
            or frame.captured - self._frames[0].captured > self.seconds
        ):
            self._bytes -= len(self._frames.popleft().frame.message)

    def nearest(self, stamp_ns: int) -> BufferedFrame | None:
        """Return the frame of that stamp, or of the nearest; of several the newest; None where
        there is no frame."""
        newest_first = reversed(self._frames)
        return min(
            newest_first, key=lambda other: abs(other.frame.stamp_ns - stamp_ns), default=None
        )


@dataclass(frozen=True)
class Snapshot:
    """What is to be shown at one moment."""

    now: float
    driver: Selected[BufferedFrame]
    camera: Selected[BufferedFrame]
    driver_input: BufferedFrame | None
    """The camera's frame that the driver's was made from."""
    boxes: Boxes | None
    area: Area | None


class Sources:
    """Collect what arrives (in the ROS thread) and take snapshots (in the compositor's thread)."""

    def __init__(
        self,
        max_age: float,
        fallback_after: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``max_age`` and ``fallback_after`` in seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._limits = max_age, fallback_after
        self.reset()

    def reset(self) -> None:
        """Forget everything, as when nobody has watched for a while."""
        with self._lock:
            max_age, fallback_after = self._limits
            self._selector = FrameSelector[BufferedFrame](self._clock(), max_age, fallback_after)
            self._history = FrameHistory(max_age)
            self._matcher = StatusMatcher[BufferedFrame]()
            self._boxes: deque[Boxes] = deque(maxlen=_KEPT_OVERLAYS)
            self._areas: deque[Area] = deque(maxlen=_KEPT_OVERLAYS)

    def set_limits(self, max_age: float, fallback_after: float) -> None:
        """Change both limits, in seconds."""
        with self._lock:
            self._limits = max_age, fallback_after
            self._selector.set_limits(max_age, fallback_after)
            self._history.seconds = max_age

    def add_camera_frame(self, frame: BufferedFrame) -> None:
        with self._lock:
            self._history.add(frame)
            self._selector.add_camera_frame(frame, self._clock())

    def add_restored_frame(self, frame: BufferedFrame, publisher: bytes = b"") -> None:
        """Add a frame of the restorer, in either mode; it is shown once its status is there too.

        ``publisher``: what identifies the process that sent it; empty: unknown.
        """
        key = publisher, frame.frame.stamp_ns
        with self._lock:
            now = self._clock()
            self._add_matched(self._matcher.add_frame(key, frame, now), now)

    def add_refused_frame(self, frame: BufferedFrame) -> None:
        """Add a frame of either that cannot be shown, or take back one that does not decode."""
        with self._lock:
            self._selector.add_refused_frame(frame)

    def add_malformed(self, why: str) -> None:
        """Note a message of either that is no frame at all."""
        with self._lock:
            self._selector.add_malformed(why, self._clock())

    def add_report(self, stamp_ns: int, report: StatusReport, publisher: bytes = b"") -> None:
        """Add what the restorer says about the frame of that stamp and publisher."""
        key = publisher, stamp_ns
        with self._lock:
            now = self._clock()
            self._add_matched(self._matcher.add_report(key, report, now), now)

    def add_boxes(self, boxes: Boxes) -> None:
        with self._lock:
            self._boxes.append(boxes)

    def add_area(self, area: Area) -> None:
        with self._lock:
            self._areas.append(area)

    def snapshot(self) -> Snapshot:
        with self._lock:
            now = self._clock()
            self._add_matched(self._matcher.take_due(now), now)
            driver = self._selector.select(now)
            stamp = None if driver.frame is None else driver.frame.frame.stamp_ns
            own = None if stamp is None else self._history.nearest(stamp)
            if own is not None and not _is_within(own.frame.stamp_ns, stamp, self._limits[0]):
                own = None
            return Snapshot(
                now=now,
                driver=driver,
                camera=self._selector.select_camera(now),
                driver_input=own,
                boxes=_nearest(self._boxes, stamp),
                area=_nearest(self._areas, stamp),
            )

    def _add_matched(self, matched: list[tuple[BufferedFrame, StatusReport]], now: float) -> None:
        for frame, report in matched:
            self._selector.add_restored_frame(frame, report, now)


def _nearest(overlays: deque[Overlay], stamp_ns: int | None) -> Overlay | None:
    """Return the overlay of that frame, or of the nearest one, of several the newest; None where
    none is near enough."""
    if stamp_ns is None:
        return None
    nearest = min(
        reversed(overlays), key=lambda overlay: abs(overlay.stamp_ns - stamp_ns), default=None
    )
    if nearest is None or not _is_within(nearest.stamp_ns, stamp_ns, _OVERLAY_WITHIN_S):
        return None
    return nearest


def _is_within(stamp_ns: int, other_ns: int | None, seconds: float) -> bool:
    return other_ns is not None and abs(stamp_ns - other_ns) * 1e-9 <= seconds
