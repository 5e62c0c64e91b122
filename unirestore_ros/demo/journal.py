"""Journals: what a process of the demo did, a JSON object a line, read while being written."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

Entry = dict[str, Any]


class JournalWriter:
    """Appends entries; each is with the reader as soon as ``add`` returns."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("a", buffering=1, encoding="utf-8")

    def add(self, **entry: Any) -> None:
        """Write one entry; values must be what JSON holds."""
        self._stream.write(json.dumps(entry) + "\n")

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()


class JournalReader:
    """Reads what is new in a journal that another process may be writing, or has yet to begin."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new_entries(self) -> list[Entry]:
        """Entries written since the last call; a line being written waits for the next call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            whole, newline, _ = stream.read().rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        return [json.loads(line) for line in whole.splitlines()]


def read_journal(path: Path) -> list[Entry]:
    """All entries of a finished journal; none where the file was never begun."""
    return JournalReader(path).new_entries()
