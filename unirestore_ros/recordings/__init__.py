"""Recordings: bags made, played, restored and compared; images and videos restored offline."""


class RecordingError(Exception):
    """An input, an output or a process failed; the text is for the user and says what to do."""
