"""What a display can show."""

from __future__ import annotations

from enum import Enum


class View(Enum):
    RESTORED = "restored"
    """The driver's picture alone."""
    SPLIT = "split"
    """The camera's left of a divider, the driver's right of it."""
    SIDE = "side"
    """The camera's and the driver's side by side."""
    RAW = "raw"
    """The camera's alone."""


class Sign(Enum):
    """What the viewer is told of a picture."""

    RESTORED = "restored"
    CAMERA = "camera"
    UNCONFIRMED = "unconfirmed"
    """From the restorer, which has not said what it is."""
    STALE = "stale"
    WAITING = "waiting"
    """There is no picture yet."""
