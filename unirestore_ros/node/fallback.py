"""Which image the driver sees: the restored one, or the camera's own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator
from enum import Enum

from rclpy.impl.rcutils_logger import RcutilsLogger

# The mode changes by itself at most this often, so that the image does not flicker.
SHORTEST_STAY_S = 1.0
# Frames in a row that must succeed beside the camera's before the restored image returns.
FRAMES_TO_RETURN = 3
# So many frames that the guard refuses within so long end restored mode.
REFUSALS = 3
REFUSALS_WITHIN_S = 1.0
# A camera whose size changed again within this time is not trusted to keep it.
SETTLED_S = 10.0
# So many different reasons are logged while camera mode lasts: a format is free text.
MOST_LOGGED_REASONS = 16
# The reason for camera mode where somebody switched restoring off.
DISABLED = "disabled"
_UNTIL_FRAMES_SUCCEED = f"until {FRAMES_TO_RETURN} frames in a row succeed"
_UNTIL_THE_FIRST = "until the first frame is restored"
# How the reason of a stall begins.
_STALL = "no output for"


class Mode(Enum):
    RESTORED = "restored"
    CAMERA = "camera"


class ModeSwitch:
    """The state machine that decides the mode, without a clock and without ROS: callers say what
    happened, and when, in seconds of one steady clock.

    It changes to camera mode at once for what is certain (disabled, no usable bundle, a frame that
    cannot be restored), even within `SHORTEST_STAY_S` of a return, because to stay would leave the
    driver without an image. A stall waits for that second to pass; until then the camera's frames
    are shown one by one.
    """

    def __init__(self, now: float, fallback_after: float) -> None:
        """``fallback_after``: seconds of input without output that count as a stall."""
        self.mode = Mode.RESTORED
        self.reason = ""
        """Say why it is camera mode; empty in restored mode."""
        self.fallback_after = fallback_after
        self._enabled = True
        self._problem: str | None = None
        self._wanted = False
        self._unanswered_since: float | None = None
        self._successes = 0
        self._returns_at_once = False
        self._is_doubted = False
        """Whether one good frame is not enough to return, however often the engine is made ready
        before: it has failed, or the camera keeps changing its size."""
        self._resized_at = float("-inf")
        self._refusals: deque[float] = deque(maxlen=REFUSALS)
        self._changed_at = now - SHORTEST_STAY_S
        self._unsupported_at = self._changed_at
        self._unsupported = ""
        """Why the last frame that could not be restored could not."""

    def set_enabled(self, enabled: bool, now: float) -> None:
        self._enabled = enabled
        self._returns_at_once = False
        self._apply_settings(now)

    def set_problem(self, problem: str | None, now: float) -> None:
        """Say why no frame at all can be restored, such as a bundle that cannot be used."""
        self._problem = problem
        self._returns_at_once = False
        self._apply_settings(now)

    def engine_failed(self, problem: str, now: float) -> None:
        """Say that the engine has failed: only frames in a row bring restored mode back."""
        self._is_doubted = True
        self.set_problem(problem, now)

    def size_changed(self, problem: str, now: float) -> None:
        """Say that the engine has to get ready for frames of another size first."""
        self._is_doubted = self._is_doubted or now - self._resized_at < SETTLED_S
        self._resized_at = now
        self.set_problem(problem, now)

    def engine_is_ready(self, now: float) -> None:
        """Say that the engine, which was getting ready, can restore: the first frame that succeeds
        ends camera mode at once, unless the engine is doubted."""
        self.set_problem(None, now)
        if self.mode is Mode.CAMERA and self._enabled and not self._is_doubted:
            self._returns_at_once = True
            self.reason = _UNTIL_THE_FIRST

    def set_wanted(self, wanted: bool) -> None:
        """Say whether anyone subscribes to an image or to features; if not, no frame is missed."""
        self._wanted = wanted
        if not wanted:
            self._unanswered_since = None
            self._successes = 0

    def frame_arrived(self, now: float, unsupported: str | None = None) -> None:
        """``unsupported``: why this frame cannot be restored."""
        if unsupported is not None:
            self._unsupported = unsupported
            self.frame_missing(unsupported, now)
            return
        if self._wanted and self._unanswered_since is None:
            self._unanswered_since = now
        if self.mode is Mode.CAMERA and self.reason == self._unsupported:
            self.reason = _UNTIL_FRAMES_SUCCEED  # this one can be restored

    def frame_missing(self, why: str, now: float) -> None:
        """Say that there is no restored frame to show: the camera's are shown at once, until frames
        in a row succeed."""
        self._unsupported_at = now
        self._successes = 0
        self._returns_at_once = False
        if self._wanted:
            self._show_camera(why, now)

    def output_sent(self) -> None:
        """Note that the awaited output of a restored frame was sent."""
        self._unanswered_since = None

    def frame_tried(self, succeeded: bool, now: float) -> None:
        """Note whether a frame was restored: in camera mode, frames that are end it."""
        if self.mode is not Mode.CAMERA or not self._may_restore():
            return
        self._successes = self._successes + 1 if succeeded else 0
        settled = now - max(self._changed_at, self._unsupported_at) >= SHORTEST_STAY_S
        is_steady = settled and self._successes >= FRAMES_TO_RETURN
        if is_steady or (succeeded and self._returns_at_once):
            self._change(Mode.RESTORED, "", now)

    def frame_refused(self, now: float) -> None:
        """Note that the guard did not trust a restored frame: the driver saw the camera's
        instead."""
        self._refusals.append(now)
        if len(self._refusals) < REFUSALS or now - self._refusals[0] > REFUSALS_WITHIN_S:
            return
        reason = f"the guard refused {REFUSALS} frames within a second"
        if self.mode is Mode.CAMERA and self._may_restore():
            self.reason = reason
            self._returns_at_once = False
        # Until the mode may change again, frames that are refused are the camera's one by one.
        elif self.mode is Mode.RESTORED and now - self._changed_at >= SHORTEST_STAY_S:
            self._show_camera(reason, now)

    def check_stall(self, now: float) -> None:
        """To be called some times a second."""
        stall = self.stall(now)
        if stall and now - self._changed_at >= SHORTEST_STAY_S:
            self._show_camera(stall, now)

    def stall(self, now: float) -> str:
        """Say that input has had no output for too long in restored mode; empty where it has.

        The camera's frames are to be shown then, also while the mode may not change yet.
        """
        if self.mode is Mode.CAMERA or not self._wanted or self._unanswered_since is None:
            return ""
        if now - self._unanswered_since < self.fallback_after:
            return ""
        return f"{_STALL} {round(self.fallback_after * 1e3)} ms of input"

    @property
    def waits_for_speed(self) -> bool:
        """Whether nothing but the time that frames take decides which image the driver sees: False
        where restoring is off or impossible, or where the guard refuses what it makes."""
        reasons = (_STALL, _UNTIL_FRAMES_SUCCEED, _UNTIL_THE_FIRST)
        is_tried = self._may_restore() and self.reason.startswith(reasons)
        return self.mode is Mode.RESTORED or is_tried

    def _may_restore(self) -> bool:
        return self._enabled and self._problem is None and self._wanted

    def _apply_settings(self, now: float) -> None:
        self._successes = 0
        reason = self._problem if self._enabled else DISABLED
        if reason is not None:
            self._show_camera(reason, now)
        elif self.mode is Mode.CAMERA:
            self.reason = _UNTIL_FRAMES_SUCCEED

    def _show_camera(self, reason: str, now: float) -> None:
        if self.mode is Mode.CAMERA:
            self.reason = reason
        else:
            self._change(Mode.CAMERA, reason, now)

    def _change(self, mode: Mode, reason: str, now: float) -> None:
        self.mode, self.reason = mode, reason
        self._changed_at = now
        self._unanswered_since = None
        self._successes = 0
        self._returns_at_once = False
        if mode is Mode.RESTORED:
            self._is_doubted = False


class Fallback:
    """The mode switch for several threads, which also keeps the frames in order.

    The executor's thread relays frames, a second one those that it has to convert, a third sends
    restored ones. Once a frame has been relayed, neither it nor an older one is sent restored: the
    order of frames is kept.
    """

    def __init__(self, fallback_after: float, logger: RcutilsLogger) -> None:
        self._lock = threading.Lock()
        self._switch = ModeSwitch(time.monotonic(), fallback_after)
        self._logger = logger
        self._logged_reasons: set[str] = set()
        """Why it is camera mode, as far as it has been logged since it was restored mode."""
        self._relayed = self._restored = -1

    @property
    def mode(self) -> Mode:
        return self._switch.mode

    @property
    def reason(self) -> str:
        """Say why the camera's frames are shown; empty where restored ones are."""
        with self._lock:
            return self._switch.reason or self._switch.stall(time.monotonic())

    @property
    def waits_for_speed(self) -> bool:
        """Whether nothing but the time that frames take decides which image the driver sees."""
        with self._lock:
            return self._switch.waits_for_speed

    def restart(self, enabled: bool, problem: str | None) -> None:
        """Begin anew with these settings, in restored mode if they permit it."""
        with self._changing():
            self._switch = ModeSwitch(time.monotonic(), self._switch.fallback_after)
        self.set_problem(problem)
        self.set_enabled(enabled)

    def set_fallback_after(self, seconds: float) -> None:
        with self._changing():
            self._switch.fallback_after = seconds

    def set_enabled(self, enabled: bool) -> None:
        with self._changing() as now:
            self._switch.set_enabled(enabled, now)

    def set_problem(self, problem: str | None) -> None:
        """Say why no frame at all can be restored; None: nothing prevents it."""
        with self._changing() as now:
            self._switch.set_problem(problem, now)

    def engine_failed(self, problem: str) -> None:
        """Say that the engine has failed: only frames in a row bring restored mode back."""
        with self._changing() as now:
            self._switch.engine_failed(problem, now)

    def size_changed(self, problem: str) -> None:
        """Say that the engine has to get ready for frames of another size first."""
        with self._changing() as now:
            self._switch.size_changed(problem, now)

    def engine_is_ready(self) -> None:
        """Say that the engine, which was getting ready, can restore."""
        with self._changing() as now:
            self._switch.engine_is_ready(now)

    def check_stall(self, wanted: bool) -> None:
        """To be called some times a second; ``wanted``: an image or features have a subscriber."""
        with self._changing() as now:
            self._switch.set_wanted(wanted)
            self._switch.check_stall(now)

    def frame_arrived(self, number: int, wanted: bool, unsupported: str | None) -> bool:
        """Return whether the frame is to be relayed as the camera made it. ``unsupported``: why it
        cannot be restored."""
        with self._changing() as now:
            self._switch.set_wanted(wanted)
            self._switch.check_stall(now)
            is_stalled = bool(self._switch.stall(now))
            self._switch.frame_arrived(now, unsupported)
            if self._switch.mode is Mode.CAMERA or is_stalled:
                self._relayed = number
            is_relayed = self._relayed == number
        if is_relayed and unsupported is not None and wanted:
            # Often it is camera mode already, since the engine is still being loaded.
            self._log_reason(unsupported)
        return is_relayed

    def _log_reason(self, reason: str) -> None:
        is_new = reason not in self._logged_reasons
        if is_new and len(self._logged_reasons) < MOST_LOGGED_REASONS:
            self._logged_reasons.add(reason)
            self._logger.warning(f"camera mode: {reason}")

    @contextlib.contextmanager
    def sending_restored(self, number: int, is_awaited: bool = True) -> Iterator[bool]:
        """A block in which a message of a restored frame may be sent: True unless it is camera
        mode, or that frame or a newer one was relayed. No frame is relayed while the block runs.

        ``is_awaited``: whether it is the driver's image or, where nobody subscribes to that, any
        other output. Only such a message shows that the network keeps up.
        """
        with self._lock:
            allowed = self._switch.mode is Mode.RESTORED and number > self._relayed
            yield allowed
            if allowed and is_awaited:
                self._restored = max(self._restored, number)
                self._switch.output_sent()

    @contextlib.contextmanager
    def sending_camera(self, number: int) -> Iterator[bool]:
        """A block in which a frame that was to be relayed may be sent later, by another thread:
        True unless a newer one was sent restored meanwhile. None is sent restored in the block."""
        with self._lock:
            yield number > self._restored

    def is_too_late_for(self, number: int) -> bool:
        """Tell whether nothing of a frame could be sent restored, since it was relayed, in camera
        mode or in a stall: to restore it would only delay the first one that is shown."""
        with self._lock:
            return self._switch.mode is Mode.RESTORED and number <= self._relayed

    def frame_tried(self, succeeded: bool) -> None:
        """Note whether a frame was restored: in camera mode, frames that are end it."""
        with self._changing() as now:
            self._switch.frame_tried(succeeded, now)

    def frame_refused(self) -> None:
        """Note that the guard did not trust a restored frame."""
        with self._changing() as now:
            self._switch.frame_refused(now)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[float]:
        """A block that may change the mode, at the time that it is given; logs the change."""
        with self._lock:
            before = self._switch.mode
            yield time.monotonic()
            mode, reason = self._switch.mode, self._switch.reason
        if mode is before:
            return
        if mode is Mode.RESTORED:
            self._logged_reasons.clear()
            self._logger.info("restored mode")
        else:
            self._log_reason(reason)
