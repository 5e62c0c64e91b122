"""The one error of the demo: its text is for the user, and says what to do."""

from __future__ import annotations


class DemoError(Exception):
    """The demo cannot go on; the text says why, and what to do about it."""
