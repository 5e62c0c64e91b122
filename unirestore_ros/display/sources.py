"""What has come from camera, restorer and machines, and which of it is to be shown now."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from unirestore_ros.display.confirmation import Confirmation
from unirestore_ros.display.frames import Held, RecentFrames
from unirestore_ros.display.overlay import Area, Boxes
from unirestore_ros.display.selection import Choice, Selection, Verdict

# Of what machines saw, the frames that are kept to be drawn over the picture of the same frame.
_SEEN = 16
# Seen so much earlier or later, a car is somewhere else in the picture.
_SEEN_WITHIN_S = 0.25
Seen = TypeVar("Seen", Boxes, Area)


@dataclass(frozen=True)
class Look:
    """One moment."""

    now: float
    driver: Choice[Held]
    camera: Choice[Held]
    pair: Held | None
    """The camera's frame of the driver's picture."""
    boxes: Boxes | None
    area: Area | None


class Sources:
    """Filled from ROS's thread, looked at from the thread that composes."""

    def __init__(
        self,
        max_age: float,
        fallback_after: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._limits = max_age, fallback_after
        self.forget()

    def forget(self) -> None:
        """Begin anew, as when nobody has watched for a while."""
        with self._lock:
            max_age, fallback_after = self._limits
            self._selection = Selection[Held](self._clock(), max_age, fallback_after)
            self._recent = RecentFrames(max_age)
            self._confirmation = Confirmation[Held]()
            self._boxes: deque[Boxes] = deque(maxlen=_SEEN)
            self._areas: deque[Area] = deque(maxlen=_SEEN)

    def set_limits(self, max_age: float, fallback_after: float) -> None:
        """In seconds."""
        with self._lock:
            self._limits = max_age, fallback_after
            self._selection.set_limits(max_age, fallback_after)
            self._recent.seconds = max_age

    def camera_frame(self, held: Held) -> None:
        with self._lock:
            self._recent.add(held)
            self._selection.camera_arrived(held, self._clock())

    def restored_frame(self, held: Held) -> None:
        """A picture of the restorer, in whichever mode; shown once its status is there too."""
        with self._lock:
            now = self._clock()
            self._take(self._confirmation.picture(held.frame.stamp_ns, held, now), now)

    def status(self, stamp_ns: int, verdict: Verdict) -> None:
        """What the restorer says of the picture of that stamp."""
        with self._lock:
            now = self._clock()
            self._take(self._confirmation.status(stamp_ns, verdict, now), now)

    def add_boxes(self, boxes: Boxes) -> None:
        with self._lock:
            self._boxes.append(boxes)

    def add_area(self, area: Area) -> None:
        with self._lock:
            self._areas.append(area)

    def look(self) -> Look:
        with self._lock:
            now = self._clock()
            self._take(self._confirmation.due(now), now)
            driver = self._selection.look(now)
            camera = self._selection.look_at_camera(now)
            stamp = None if driver.picture is None else driver.picture.frame.stamp_ns
            return Look(
                now=now,
                driver=driver,
                camera=camera,
                pair=self._pair(driver.picture),
                boxes=self._nearest(self._boxes, stamp),
                area=self._nearest(self._areas, stamp),
            )

    def _take(self, confirmed: list[tuple[Held, Verdict]], now: float) -> None:
        for held, verdict in confirmed:
            self._selection.restored_arrived(held, verdict, now)

    def _pair(self, picture: Held | None) -> Held | None:
        pair = None if picture is None else self._recent.like(picture)
        if picture is None or pair is None:
            return None
        apart = abs(pair.frame.stamp_ns - picture.frame.stamp_ns) * 1e-9
        return pair if apart <= self._limits[0] else None

    def _nearest(self, seen: Iterable[Seen], stamp_ns: int | None) -> Seen | None:
        """What machines saw in that frame, or in the nearest."""
        if stamp_ns is None:
            return None
        nearest = min(seen, key=lambda each: abs(each.stamp_ns - stamp_ns), default=None)
        if nearest is None or abs(nearest.stamp_ns - stamp_ns) * 1e-9 > _SEEN_WITHIN_S:
            return None
        return nearest
