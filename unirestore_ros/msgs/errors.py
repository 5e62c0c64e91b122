"""Why a camera's frame is not restored: each error's text is fit for a log or diagnostics."""

from __future__ import annotations


class MalformedMessage(ValueError):
    """A message that contradicts itself: nothing can be made of it, so it is dropped."""


class UnsupportedFrame(ValueError):
    """A sound message that cannot be restored: its encoding or its size. It is passed on."""
