"""A full-screen window, with OpenCV's HighGUI; for the main thread, as window systems want it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

import cv2

from unirestore_ros.display.view import View
from unirestore_ros.msgs.image_conversion import Pixels
from unirestore_ros.node.process import StopRequests

_TITLE = "Driver display"
_POLL_MS = 5
_ESCAPE = 27
_VIEW_KEYS = {ord("1") + place: view for place, view in enumerate(View)}


class WindowError(RuntimeError):
    """No window can be opened, and what to do."""


class Window:
    """Shows the newest picture; keys 1 to 4 choose the view, e switches restoring on or off, Escape
    and q end it, and the mouse drags the divider."""

    def __init__(
        self,
        size: tuple[int, int],
        change_view: Callable[[View], None],
        move_divider: Callable[[float], None],
        toggle_enabled: Callable[[], None],
    ) -> None:
        self._change_view = change_view
        self._move_divider = move_divider
        self._toggle_enabled = toggle_enabled
        self._newest: deque[tuple[Pixels, tuple[int, int]]] = deque(maxlen=1)
        self._span = 0, 1
        _open(size)
        cv2.setMouseCallback(_TITLE, self._hear_mouse)

    def offer(self, picture: Pixels, span: tuple[int, int]) -> None:
        """A BGR picture, from any thread; ``span``: its columns that a divider runs through."""
        self._newest.append((picture, span))

    def run(self, requests: StopRequests) -> None:
        """Until there is a request to stop, or the viewer ends it."""
        try:
            while requests.empty() and self._turn():
                pass
        finally:
            cv2.destroyAllWindows()

    def _turn(self) -> bool:
        """False where the viewer ends it."""
        if self._newest:
            picture, self._span = self._newest.pop()
            cv2.imshow(_TITLE, picture)
        key = cv2.waitKey(_POLL_MS) & 0xFF
        if key in (_ESCAPE, ord("q")) or cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) == 0:
            return False
        if key in _VIEW_KEYS:
            self._change_view(_VIEW_KEYS[key])
        elif key == ord("e"):
            self._toggle_enabled()
        return True

    def _hear_mouse(self, event: int, x: int, y: int, flags: int, data: object) -> None:
        if event == cv2.EVENT_LBUTTONDOWN or flags & cv2.EVENT_FLAG_LBUTTON:
            begin, end = self._span
            self._move_divider(min(1.0, max(0.0, (x - begin) / max(1, end - begin))))


def _open(size: tuple[int, int]) -> None:
    # Asked first: without a screen, Qt ends the whole process.
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise WindowError(
            "window: there is no screen here (neither DISPLAY nor WAYLAND_DISPLAY is set); set it,"
            " or set window to false and use the page"
        )
    try:
        cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL)
        # Where there is no window manager to make it full-screen, it has the pictures' size.
        cv2.moveWindow(_TITLE, 0, 0)
        cv2.resizeWindow(_TITLE, *size)
        cv2.setWindowProperty(_TITLE, cv2.WND_PROP_FULLSCREEN, cv2.WINDOW_FULLSCREEN)
    except cv2.error as error:
        raise WindowError(
            f"window: this OpenCV ({cv2.__version__}) opens no windows, as headless builds do not:"
            " install apt's python3-opencv, or pip uninstall opencv-python-headless and"
            " pip install 'unirestore_ros[display]'"
        ) from error
