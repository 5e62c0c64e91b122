"""Which frame the driver sees, and what the display says about it.

State machines without a clock, ROS or pixels: callers say what arrived, and when, in seconds of one
steady clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, NamedTuple, Protocol, TypeVar

from unirestore_ros.node.fallback import Mode, ModeSwitch

# The restorer publishes the status right after the image, from another thread: it arrives some
# milliseconds later, on a busy machine some tens.
STATUS_WAIT_S = 0.1
_MAX_REPORTS, _KEPT_REPORT_S = 32, 1.0
_MAX_UNMATCHED = 8


class FrameStatus(Enum):
    """What the viewer learns about the shown frame."""

    RESTORED = "restored"
    CAMERA = "camera"
    UNCONFIRMED = "unconfirmed"
    """Published by the restorer, without a message on its status topic."""
    NO_PICTURE = "no picture"
    """Frames arrive, but none that can be shown."""
    STALE = "stale"
    """Older than the largest age that may be shown as current."""
    WAITING = "waiting"
    """No frame has arrived yet."""


@dataclass(frozen=True)
class StatusReport:
    """What the restorer says about a frame that it published."""

    mode: Mode | None
    """None: it has said nothing."""
    reason: str = ""
    age_note: str = ""
    """What it says where the age of frames is unknown."""


class Captured(Protocol):
    @property
    def captured(self) -> float:
        """When the camera took the frame, in seconds of the steady clock."""

    @property
    def refused(self) -> str | None:
        """Why the frame cannot be shown."""


T = TypeVar("T")
C = TypeVar("C", bound=Captured)

_NO_REPORT = StatusReport(None, "nothing on its status topic")
_STATUS_OF_MODE = {
    Mode.RESTORED: FrameStatus.RESTORED,
    Mode.CAMERA: FrameStatus.CAMERA,
    None: FrameStatus.UNCONFIRMED,
}


@dataclass(frozen=True)
class Selected(Generic[T]):
    """The frame to show (None: there is none) and what to say about it. Where the status is
    NO_PICTURE, there is no frame, or it has a header and no pixels."""

    frame: T | None
    status: FrameStatus
    reason: str = ""


class FrameSelector(Generic[C]):
    """Choose the restorer's frame while frames come and are fresh, else the camera's, else the
    newest of both, as STALE.

    Once the camera's is shown, it stays until the restorer has been back for a second, by the same
    rules as in the restorer itself.
    """

    def __init__(self, now: float, max_age: float, fallback_after: float) -> None:
        self.max_age = max_age
        self._switch = ModeSwitch(now, fallback_after)
        self._switch.set_wanted(True)
        self._camera: C | None = None
        self._restored: C | None = None
        self._refused: C | None = None
        self._malformed = "", float("-inf")
        """What was wrong with the last message that was no frame, and when it came."""
        self._report = _NO_REPORT

    def set_limits(self, max_age: float, fallback_after: float) -> None:
        self.max_age = max_age
        self._switch.fallback_after = fallback_after

    def add_camera_frame(self, frame: C, now: float) -> None:
        self._camera = frame
        self._switch.frame_arrived(now)

    def add_restored_frame(self, frame: C, report: StatusReport, now: float) -> None:
        """Add a frame that the restorer published, in either mode."""
        self._restored, self._report = frame, report
        fresh = self._is_fresh(frame, now)
        if fresh:
            self._switch.output_sent()
        self._switch.frame_tried(fresh, now)

    def add_refused_frame(self, frame: C) -> None:
        """Add a frame of either that cannot be shown."""
        self._refused = frame
        if self._camera is frame:
            self._camera = None
        if self._restored is frame:
            self._restored = None

    def add_malformed(self, why: str, now: float) -> None:
        """Note a message of either that is no frame at all."""
        self._malformed = why, now

    def select(self, now: float) -> Selected[C]:
        """Select what the driver sees now."""
        self._switch.check_stall(now)
        camera_is_fresh = self._is_fresh(self._camera, now)
        if self._is_fresh(self._restored, now):
            if self._switch.mode is Mode.RESTORED or not camera_is_fresh:
                status = _STATUS_OF_MODE[self._report.mode]
                return Selected(self._restored, status, self._report.reason)
        elif self._restored is not None and camera_is_fresh and self._switch.mode is Mode.RESTORED:
            # The frame on screen is too old: do not wait until the stall is noticed.
            self._switch.frame_missing("no fresh image from the restorer", now)
        if camera_is_fresh:
            reason = self._switch.reason or "nothing restored yet"
            return Selected(self._camera, FrameStatus.CAMERA, reason)
        frames = [frame for frame in (self._restored, self._camera) if frame is not None]
        return self._none_fresh(max(frames, key=lambda frame: frame.captured, default=None), now)

    def select_camera(self, now: float) -> Selected[C]:
        """Select the camera's frame, whatever the restorer does."""
        if self._is_fresh(self._camera, now):
            return Selected(self._camera, FrameStatus.CAMERA, "raw view")
        return self._none_fresh(self._camera, now)

    def _none_fresh(self, frame: C | None, now: float) -> Selected[C]:
        refused = self._refused
        if refused is not None and self._is_fresh(refused, now):
            return Selected(refused, FrameStatus.NO_PICTURE, refused.refused or "")
        why, when = self._malformed
        if now - when > self.max_age:
            why = ""
        if frame is not None:
            return Selected(frame, FrameStatus.STALE, why or "no new image")
        if why:
            return Selected(None, FrameStatus.NO_PICTURE, why)
        return Selected(None, FrameStatus.WAITING, "no image yet")

    def _is_fresh(self, frame: C | None, now: float) -> bool:
        return frame is not None and now - frame.captured <= self.max_age


@dataclass(frozen=True)
class _Unmatched(Generic[T]):  # Python 3.10 has no generic NamedTuple
    key: Hashable
    frame: T
    since: float


class _Report(NamedTuple):
    key: Hashable
    report: StatusReport
    since: float


class StatusMatcher(Generic[T]):
    """Pair each frame of the restorer with the status report of the same key: who published it, and
    its stamp. So a frame of one node is never paired with what another of its name reports. Several
    of one key are paired in the order in which they come.

    A frame waits `STATUS_WAIT_S` for its report. Both queues are bounded.
    """

    def __init__(self) -> None:
        self._reports: deque[_Report] = deque(maxlen=_MAX_REPORTS)
        self._frames: deque[_Unmatched[T]] = deque()

    def add_frame(self, key: Hashable, frame: T, now: float) -> list[tuple[T, StatusReport]]:
        """Add a frame; return those that wait no longer, oldest first."""
        self._frames.append(_Unmatched(key, frame, now))
        return self.take_due(now)

    def add_report(
        self, key: Hashable, report: StatusReport, now: float
    ) -> list[tuple[T, StatusReport]]:
        """Add a report; return the frames that wait no longer, oldest first."""
        self._reports.append(_Report(key, report, now))
        return self.take_due(now)

    def take_due(self, now: float) -> list[tuple[T, StatusReport]]:
        """Remove and return the frames that have a report or have waited long enough."""
        while self._reports and now - self._reports[0].since > _KEPT_REPORT_S:
            self._reports.popleft()  # its frame was lost: the next of that key is not its own
        due = []
        while self._frames and self._is_due(self._frames[0], now):
            oldest = self._frames.popleft()
            key, frame = oldest.key, oldest.frame
            due.append((frame, self._take_report(key)))
        return due

    def _take_report(self, key: Hashable) -> StatusReport:
        for report in self._reports:
            if report.key == key:
                self._reports.remove(report)
                return report.report
        return _NO_REPORT

    def _is_due(self, oldest: _Unmatched[T], now: float) -> bool:
        # A frame whose report is there does not wait for an older one whose report was lost.
        reported = {report.key for report in self._reports}
        has_report = any(each.key in reported for each in self._frames)
        return (
            has_report or now - oldest.since >= STATUS_WAIT_S or len(self._frames) > _MAX_UNMATCHED
        )
