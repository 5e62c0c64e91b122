"""A drive: a camera, the real restore_node with a miniature bundle, and the display beside it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from ros_miniature import HEIGHT, WIDTH
from ros_process import NodeProcess
from ros_station import Station, image
from sensor_msgs.msg import Image

# So patient that a busy machine does not make the image stale by itself.
PATIENT = ("max_age_ms:=10000", "fallback_after_ms:=10000", "hang_after_ms:=60000")
SIZE = (320, 240)
ACROSS, DOWN = np.meshgrid(np.linspace(0, 160, WIDTH), np.linspace(0, 120, HEIGHT))
FRAME = np.dstack([ACROSS, DOWN, np.full_like(DOWN, 40)]).astype(np.uint8)
"""RGB, so smooth that JPEG leaves it as it is; its first pixel asks the miniature for nothing."""


class Display:
    """A drive: camera, restorer and display."""

    def __init__(self, station: Station, display: NodeProcess, restorer: NodeProcess) -> None:
        self.station = station
        self.display = display
        self.restorer = restorer
        self.behind_s = 0
        """By how much the camera's clock is behind."""
        self.instead: Image | None = None
        """What the camera sends in place of FRAME."""
        self._camera = station.node.create_publisher(Image, f"{station.namespace}/image", 1)

    def send(self, message: Image | None = None) -> None:
        """Send a frame of the camera, and receive for a twentieth of a second."""
        message = message or self.instead or image(FRAME, "rgb8")
        if message.data:  # as a camera's noise does it: a frozen one would be named
            message.data[-1] = time.time_ns() // 10**7 % 2
        stamp = time.time_ns() - self.behind_s * 10**9
        message.header.stamp = Time(sec=stamp // 10**9, nanosec=stamp % 10**9)
        message.header.frame_id = "front"
        self._camera.publish(message)
        self.station.pause(0.05)

    def receive(self, kind: type, topic: str, condition: Callable[[Any], bool]) -> Any:
        """Return the first message of the topic that meets the condition, while the camera
        sends."""
        inbox = self.station.subscribe(f"{self.station.namespace}/driver_display/{topic}", kind)

        def received() -> Any:
            self.send()
            return next((each for each in reversed(inbox.messages) if condition(each)), None)

        found = self.station.wait(received, f"{topic} as it should be")
        self.station.unsubscribe(f"{self.station.namespace}/driver_display/{topic}")
        return found

    @property
    def url(self) -> str:
        found = self.station.wait(
            lambda: re.search(r"page: (http://\S+)", self.display.said()), "the page's address"
        )
        assert found
        return found[1]
