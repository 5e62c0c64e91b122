"""Which picture is shown, and what is said of it.

A state machine without a clock, without ROS and without pixels: whoever uses it says what arrived,
and when.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from unirestore_ros.display.view import Sign
from unirestore_ros.node.mode import Mode, ModeSwitch


class Captured(Protocol):
    @property
    def captured(self) -> float:
        """When the camera took it: seconds of the steady clock."""


T = TypeVar("T", bound=Captured)

_SIGNS = {Mode.RESTORED: Sign.RESTORED, Mode.CAMERA: Sign.CAMERA, None: Sign.UNCONFIRMED}


@dataclass(frozen=True)
class Verdict:
    """What the restorer says of a picture that it sent; no mode where it has not said."""

    mode: Mode | None
    reason: str = ""


@dataclass(frozen=True)
class Choice(Generic[T]):
    """A picture to show, or none, and what to say of it."""

    picture: T | None
    sign: Sign
    reason: str = ""


class Selection(Generic[T]):
    """The restorer's picture while it comes and is fresh, else the camera's, else the newest that
    there was, as STALE. Times are seconds of one steady clock.

    The camera's stays until the restorer has been back for a second, by the same rules as in the
    restorer itself.
    """

    def __init__(self, now: float, max_age: float, fallback_after: float) -> None:
        self.max_age = max_age
        self._switch = ModeSwitch(now, fallback_after)
        self._switch.set_wanted(True)
        self._camera: T | None = None
        self._restored: T | None = None
        self._verdict = Verdict(None)

    def set_limits(self, max_age: float, fallback_after: float) -> None:
        self.max_age = max_age
        self._switch.fallback_after = fallback_after

    def camera_arrived(self, picture: T, now: float) -> None:
        self._camera = picture
        self._switch.frame_arrived(now)

    def restored_arrived(self, picture: T, verdict: Verdict, now: float) -> None:
        """A picture of the restorer, in whichever mode."""
        self._restored, self._verdict = picture, verdict
        fresh = self._is_fresh(picture, now)
        if fresh:
            self._switch.output_produced()
        self._switch.frame_tried(fresh, now)

    def look(self, now: float) -> Choice[T]:
        """What the driver sees now."""
        self._switch.check_stall(now)
        if self._is_fresh(self._restored, now):
            if self._switch.mode is Mode.RESTORED or not self._is_fresh(self._camera, now):
                return Choice(self._restored, _SIGNS[self._verdict.mode], self._verdict.reason)
        elif self._restored is not None and self._is_fresh(self._camera, now):
            self._give_up_restored(now)
        if self._is_fresh(self._camera, now):
            return Choice(self._camera, Sign.CAMERA, self._switch.reason or "nothing restored yet")
        return self._stale(self._newest())

    def look_at_camera(self, now: float) -> Choice[T]:
        """What is to be seen of the camera now, whatever the restorer does."""
        if self._is_fresh(self._camera, now):
            return Choice(self._camera, Sign.CAMERA, "raw view")
        return self._stale(self._camera)

    def _give_up_restored(self, now: float) -> None:
        """At once, before the next stall would be noticed: the picture shown is too old."""
        if self._switch.mode is Mode.RESTORED:
            self._switch.frame_arrived(now, unfit="no fresh picture from the restorer")

    def _stale(self, picture: T | None) -> Choice[T]:
        if picture is None:
            return Choice(None, Sign.WAITING, "no picture yet")
        return Choice(picture, Sign.STALE, "no new picture")

    def _newest(self) -> T | None:
        there = [picture for picture in (self._restored, self._camera) if picture is not None]
        return max(there, key=lambda picture: picture.captured, default=None)

    def _is_fresh(self, picture: T | None, now: float) -> bool:
        return picture is not None and now - picture.captured <= self.max_age
