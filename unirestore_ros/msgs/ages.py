"""The age of frames, cameras whose clock is not the node's, and cameras that are frozen.

A stamp says how old a frame is only where camera and node share a clock. Many cameras do not: their
stamps are zero, count from their own start, or are wrong by a constant. Their frames are as good as
any, so their age is counted from arrival, and everybody learns that it is unknown: what arrives
may have been on its way for any time.
"""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rclpy.clock import Clock
from rclpy.impl.rcutils_logger import RcutilsLogger

from unirestore_ros.msgs.camera_frame import CameraFrame

_WINDOW_S = 3.0
# A stamp this far in the future is another clock's. Simulated time advances in steps, and a frame
# may come before the step of its own stamp.
_AHEAD_S, _AHEAD_SIMULATED_S = 0.05, 0.25
_AHEAD_WITHIN_S = 1.0
# Frames that are late on the way differ in how late they are; a clock that is behind does not.
_STEADY_S = 0.1
# Telling late frames from a clock that is behind takes the first; none is late by the second.
_TELL_AFTER_S, _CERTAINLY_S = 1.0, 10.0
_FRAMES_ALIKE, _CLOCK_STANDS_S = 5, 1.0
# So long, and so many times, a camera may send the same image: two frames of a live one differ at
# least by the sensor's noise.
_REPEATED_S, _REPEATS = 1.0, 3


class _Arrival(NamedTuple):
    at: float
    """Seconds of the steady clock."""
    stamp_ns: int
    now_ns: int
    """Time by the node's clock."""

    @property
    def age_s(self) -> float:
        return (self.now_ns - self.stamp_ns) * 1e-9


class ImageRepetition:
    """Notices a camera that is frozen: it sends the same image again and again, under new stamps.

    One thread observes, any may read.
    """

    # CDR's own 4 bytes and the stamp differ, all that follows is compared.
    _COMPARED_FROM = 16
    _EVERY_BYTES = 4099

    def __init__(self) -> None:
        self.note: str | None = None
        """What is said of a camera that is frozen."""
        self._content: NDArray[np.uint8] | None = None
        self._since = 0.0
        self._repeats = 0

    def observe(self, message: bytes, now: float) -> None:
        """Learn from a message that has arrived at ``now``, in seconds of the steady clock."""
        content = np.frombuffer(message, np.uint8)[self._COMPARED_FROM :]
        if self._content is None or not self._is_same(content):
            self._content, self._since, self._repeats, self.note = content, now, 0, None
            return
        self._repeats += 1
        repeated_s = now - self._since
        if self._repeats >= _REPEATS and repeated_s >= _REPEATED_S:
            self.note = f"the camera's image has not changed for {repeated_s:.1f} s"

    def _is_same(self, content: NDArray[np.uint8]) -> bool:
        if self._content is None or len(content) != len(self._content):
            return False
        every = self._EVERY_BYTES  # tells two images of a live camera apart at no cost
        return np.array_equal(content[::every], self._content[::every]) and np.array_equal(
            content, self._content
        )


class AgeClock:
    """Tells the age of one camera's frames. One thread observes, any may read."""

    def __init__(self, clock: Clock, logger: RcutilsLogger, max_age_ms: float) -> None:
        self.max_age_s = max_age_ms * 1e-3
        """A clock that is behind by less cannot be told from frames that take so long."""
        self.unknown: str | None = None
        """Why ages are counted from arrival; None while they are those of the stamps."""
        self.has_stamps = True
        """False where stamps do not tell one frame from another."""
        self._clock = clock
        self._logger = logger
        self._arrivals: deque[_Arrival] = deque()
        self._set_back_at = float("-inf")
        self._repetition = ImageRepetition()
        self._logged: str | None = None

    @property
    def note(self) -> str | None:
        """Return the note by which status and display say that the age is unknown, or that the
        camera is frozen: how old what it shows is, its stamps do not tell then."""
        why = self.unknown or self._repetition.note
        return None if why is None else f"age unknown: {why}"

    def observe(self, frame: CameraFrame) -> None:
        """Learn from a frame that has just arrived."""
        arrival = _Arrival(frame.arrived, frame.stamp_ns, self._clock.now().nanoseconds)
        self._forget_other_clock(arrival)
        self._arrivals.append(arrival)
        while frame.arrived - self._arrivals[0].at > _WINDOW_S:
            self._arrivals.popleft()
        empty = self._empty_stamps()
        self.has_stamps = empty is None
        self.unknown = self._stopped_clock() or empty or self._other_clock()
        self._repetition.observe(frame.message, frame.arrived)
        self._log()

    def _forget_other_clock(self, arrival: _Arrival) -> None:
        """Drop what came before the camera's clock was set back, which would hide for the whole
        window that it is behind now. Not again within the window: two cameras may share a topic."""
        if not self._arrivals or arrival.at - self._set_back_at <= _WINDOW_S:
            return
        if (self._arrivals[-1].stamp_ns - arrival.stamp_ns) * 1e-9 > _CERTAINLY_S:
            self._arrivals.clear()
            self._set_back_at = arrival.at

    def age_s(self, frame: CameraFrame) -> float:
        """Return the seconds since its stamp, by the node's clock; since its arrival where that is
        no age."""
        if self.unknown is not None:
            return time.monotonic() - frame.arrived
        return float(max(0.0, (self._clock.now().nanoseconds - frame.stamp_ns) * 1e-9))

    def _stopped_clock(self) -> str | None:
        first, last = self._arrivals[0], self._arrivals[-1]
        if last.now_ns == 0:
            return "use_sim_time is set, and nothing has come on /clock"
        stands = last.now_ns == first.now_ns and last.at - first.at >= _CLOCK_STANDS_S
        return (
            "the node's clock stands still, as in a simulation that is paused" if stands else None
        )

    def _empty_stamps(self) -> str | None:
        if self._arrivals[-1].stamp_ns == 0:
            return "the camera's stamps are zero"
        return "the camera's stamps are all alike" if self._stamps_are_alike() else None

    def _stamps_are_alike(self) -> bool:
        stamps = {arrival.stamp_ns for arrival in self._arrivals}
        return len(stamps) == 1 and len(self._arrivals) >= _FRAMES_ALIKE

    def _other_clock(self) -> str | None:
        last = self._arrivals[-1]
        recent = [a.age_s for a in self._arrivals if last.at - a.at <= _AHEAD_WITHIN_S]
        simulated = getattr(self._clock, "ros_time_is_active", False)
        if min(recent) < -(_AHEAD_SIMULATED_S if simulated else _AHEAD_S):
            return f"camera clock is {-min(recent):.1f} s ahead"
        least = min(arrival.age_s for arrival in self._arrivals)
        if least <= self.max_age_s:
            return None
        can_tell = last.at - self._arrivals[0].at >= _TELL_AFTER_S or least > _CERTAINLY_S
        if can_tell and self._is_steady():
            return f"camera clock is {least:.1f} s behind"
        return None

    def _is_steady(self) -> bool:
        """Tell whether the least age of the later half of the window is that of the earlier
        half."""
        middle = (self._arrivals[0].at + self._arrivals[-1].at) / 2
        earlier = [arrival.age_s for arrival in self._arrivals if arrival.at <= middle]
        later = [arrival.age_s for arrival in self._arrivals if arrival.at > middle]
        return not later or abs(min(later) - min(earlier)) <= _STEADY_S

    def _log(self) -> None:
        """Log once for each kind: the seconds in the text change with every frame."""
        kind = None if self.note is None else _without_figures(self.note)
        if kind is not None and kind != self._logged:
            fix = (
                "ages count from arrival; synchronise the clocks, or set use_sim_time where a bag"
                " is played with --clock"
                if self.unknown
                else "it is frozen, or shows a scene that stands still without a sensor's noise"
            )
            self._logger.warning(f"{self.note}: {fix}")
        self._logged = kind


def _without_figures(text: str) -> str:
    return "".join(letter for letter in text if not letter.isdigit())
