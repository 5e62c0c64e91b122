"""What is wrong with an input or an output: the text is for the user, and says what to do."""

from __future__ import annotations


class MediaError(Exception):
    """A file, folder or bag cannot be read or written; the text says why, and what to do."""
