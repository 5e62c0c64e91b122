"""Which picture the driver sees: the restored one, or the camera's own.

A state machine without a clock and without ROS: whoever uses it says what happened, and when.
"""

from __future__ import annotations

from enum import Enum

# The mode changes by itself at most this often, so that the picture does not flicker.
SHORTEST_STAY_S = 1.0
# Frames in a row that must succeed beside the camera's before the restored picture returns.
FRAMES_TO_RETURN = 3
# Why it is camera mode where somebody switched restoring off.
DISABLED = "disabled"


class Mode(Enum):
    RESTORED = "restored"
    CAMERA = "camera"


class ModeSwitch:
    """Decides the mode. Times are seconds of one steady clock.

    Into camera mode it goes at once for what is certain (disabled, no usable bundle, a frame that
    cannot be restored), even sooner than `SHORTEST_STAY_S` after a return, because staying would
    leave the driver without a picture; a stall waits for that second.
    """

    def __init__(self, now: float, fallback_after: float) -> None:
        self.mode = Mode.RESTORED
        self.reason = ""
        """Why the camera's picture is shown; empty while the restored one is."""
        self.fallback_after = fallback_after
        self._enabled = True
        self._obstacle: str | None = None
        self._wanted = False
        self._unanswered_since: float | None = None
        self._successes = 0
        self._changed_at = now - SHORTEST_STAY_S
        self._unfit_at = self._changed_at

    def set_enabled(self, enabled: bool, now: float) -> None:
        self._enabled = enabled
        self._heed(now)

    def set_obstacle(self, obstacle: str | None, now: float) -> None:
        """What keeps every frame from being restored, such as a bundle that cannot be used."""
        self._obstacle = obstacle
        self._heed(now)

    def set_wanted(self, wanted: bool) -> None:
        """Whether anyone subscribes to an image or to features; without, no frame is missed."""
        self._wanted = wanted
        if not wanted:
            self._unanswered_since = None
            self._successes = 0

    def frame_arrived(self, now: float, unfit: str | None = None) -> None:
        """``unfit``: why this frame cannot be restored."""
        if unfit is not None:
            self._unfit_at = now
            self._successes = 0
            if self._wanted:
                self._show_camera(unfit, now)
        elif self._wanted and self._unanswered_since is None:
            self._unanswered_since = now

    def output_produced(self) -> None:
        """Any image or features of a restored frame went out."""
        self._unanswered_since = None

    def frame_tried(self, succeeded: bool, now: float) -> None:
        """A frame was restored beside the camera's, or failed to be."""
        if self.mode is not Mode.CAMERA or not self._may_restore():
            return
        self._successes = self._successes + 1 if succeeded else 0
        settled = now - max(self._changed_at, self._unfit_at) >= SHORTEST_STAY_S
        if self._successes >= FRAMES_TO_RETURN and settled:
            self._change(Mode.RESTORED, "", now)

    def check_stall(self, now: float) -> None:
        """To be called some times a second."""
        if self.mode is Mode.CAMERA or not self._wanted or self._unanswered_since is None:
            return
        unanswered = now - self._unanswered_since
        if unanswered >= self.fallback_after and now - self._changed_at >= SHORTEST_STAY_S:
            self._show_camera(f"no output for {round(self.fallback_after * 1e3)} ms of input", now)

    def _may_restore(self) -> bool:
        return self._enabled and self._obstacle is None and self._wanted

    def _heed(self, now: float) -> None:
        """Act on what has just been set."""
        self._successes = 0
        reason = self._obstacle if self._enabled else DISABLED
        if reason is not None:
            self._show_camera(reason, now)
        elif self.mode is Mode.CAMERA:
            self.reason = f"until {FRAMES_TO_RETURN} frames in a row succeed"

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
