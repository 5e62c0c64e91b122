"""What the driver's topics let through: restored frames or the camera's, in their order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from unirestore_ros.node.mode import Mode, ModeSwitch


class Gate:
    """The mode switch, shared by the thread of the camera's frames and that of restored ones.

    Of a frame that was passed on, and of all before it, no restored form is sent any more: neither
    picture nor order of frames ever goes back.
    """

    def __init__(
        self, fallback_after: float, on_change: Callable[[Mode, str], None] = lambda *_: None
    ) -> None:
        self._lock = threading.Lock()
        self._switch = ModeSwitch(time.monotonic(), fallback_after)
        self._on_change = on_change
        self._passed_on = -1

    @property
    def mode(self) -> Mode:
        return self._switch.mode

    @property
    def reason(self) -> str:
        """Why it is camera mode; empty in restored mode."""
        return self._switch.reason

    def restart(self, fallback_after: float) -> None:
        """Forget what was, and begin in restored mode."""
        with self._lock:
            self._switch = ModeSwitch(time.monotonic(), fallback_after)

    def set_fallback_after(self, seconds: float) -> None:
        with self._lock:
            self._switch.fallback_after = seconds

    def set_enabled(self, enabled: bool) -> None:
        self._tell(lambda switch, now: switch.set_enabled(enabled, now))

    def set_obstacle(self, obstacle: str | None) -> None:
        """What keeps every frame from being restored; None: nothing does."""
        self._tell(lambda switch, now: switch.set_obstacle(obstacle, now))

    def check_stall(self, wanted: bool) -> None:
        """To be called some times a second; ``wanted``: an image or features have a subscriber."""

        def check(switch: ModeSwitch, now: float) -> None:
            switch.set_wanted(wanted)
            switch.check_stall(now)

        self._tell(check)

    def admit(self, number: int, wanted: bool, unfit: str | None) -> bool:
        """A frame arrived: True where it is to be passed on as it is. ``unfit``: why it cannot be
        restored."""

        def arrive(switch: ModeSwitch, now: float) -> None:
            switch.set_wanted(wanted)
            switch.check_stall(now)
            switch.frame_arrived(now, unfit)
            if switch.mode is Mode.CAMERA:
                self._passed_on = number

        self._tell(arrive)
        return self._passed_on == number

    def send_restored(self, number: int, send: Callable[[], None], is_output: bool = True) -> bool:
        """Call ``send`` unless it is camera mode, or that frame or a newer one was passed on.
        ``is_output``: an image or features, which show that the network keeps up."""
        with self._lock:
            if self._switch.mode is Mode.CAMERA or number <= self._passed_on:
                return False
            send()
            if is_output:
                self._switch.output_produced()
            return True

    def frame_tried(self, succeeded: bool) -> None:
        """A frame has had its turn; in camera mode this is what brings the restored one back."""
        self._tell(lambda switch, now: switch.frame_tried(succeeded, now))

    def _tell(self, what: Callable[[ModeSwitch, float], None]) -> None:
        with self._lock:
            before = self._switch.mode
            what(self._switch, time.monotonic())
            mode, reason = self._switch.mode, self._switch.reason
        if mode is not before:
            self._on_change(mode, reason)
