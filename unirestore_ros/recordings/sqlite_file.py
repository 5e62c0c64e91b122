"""Read an sqlite3 file of a bag, healthy or damaged: what is whole is read, the rest is counted.

The messages' places are found first, by walking the table from its beginning and, where that meets
damage, from its end. Each message is then read by itself, so that a damaged page costs the
messages on it and no others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from unirestore_ros.recordings.storage_file import (
    LATEST_NS,
    FileDamaged,
    StoredMessage,
    StoredTopic,
    are_plausible,
)

_MAGIC = b"SQLite format 3\0"
_LARGEST_ID = 2**63 - 1
# In the order of the fields of a row of the index.
_INDEX_FIELDS = "id, topic_id, timestamp"


class SqliteFile:
    """One file, open. ``damage`` says in words what of it is not as it was written."""

    storage = "sqlite3"

    def __init__(self, path: Path) -> None:
        """Open and find the messages; FileDamaged where there is nothing to be read."""
        self.path = path
        self.topics: dict[int, StoredTopic] = {}
        self.damage: list[str] = []
        self.start_ns, self.end_ns = LATEST_NS, 0
        with path.open("rb") as stream:
            start = stream.read(len(_MAGIC))
        if start != _MAGIC:
            raise FileDamaged("is empty" if not start else "does not begin as an sqlite3 database")
        # A recorder that was killed leaves its last messages in the journal beside the file; else
        # the file is read as it stands, which works in a folder that cannot be written to.
        journal = path.with_name(path.name + "-wal")
        has_journal = journal.exists() and journal.stat().st_size > 0
        flag = "" if has_journal else "&immutable=1"
        uri = f"file:{quote(str(path.absolute()))}?mode=ro{flag}"
        try:
            self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            raise FileDamaged(f"cannot be opened: {error}") from error
        try:
            self._database.text_factory = lambda text: text.decode(errors="replace")
            self._read_topics()
            self._index = self._found_messages()
        except sqlite3.Error as error:
            self._database.close()
            raise FileDamaged(f"cannot be read: {error}") from error
        except BaseException:
            self._database.close()
            raise
        self._count()

    def close(self) -> None:
        self._database.close()

    @property
    def message_count(self) -> int:
        return len(self._index)

    def messages(
        self, wanted: Collection[int], start_ns: int, end_ns: int
    ) -> Iterator[StoredMessage]:
        """Yield the messages of those topics and times, in the order of their times.

        What cannot be read is added to ``damage`` at the end.
        """
        topics, times = self._index[:, 1], self._index[:, 2]
        chosen = np.isin(topics, list(wanted)) & (times >= start_ns) & (times < end_ns)
        lost: Counter[str] = Counter()
        for number, topic, time_ns in self._index[chosen].tolist():
            data = self._data(number)
            if data is None:
                lost[self.topics[topic].name] += 1
            else:
                yield StoredMessage(topic, time_ns, data)
        if lost:
            words = ", ".join(f"{count} of {name}" for name, count in sorted(lost.items()))
            self._note(f"messages cannot be read: {words}")

    def _data(self, number: int) -> bytes | None:
        try:
            row = self._database.execute(
                "SELECT data FROM messages WHERE id = ?", (number,)
            ).fetchone()
        except (sqlite3.Error, MemoryError):
            return None
        return row[0] if row is not None and isinstance(row[0], bytes) else None

    def _read_topics(self) -> None:
        columns = {row[1] for row in self._database.execute("PRAGMA table_info(topics)")}
        if not {"id", "name", "type"} <= columns:
            raise FileDamaged("has no table of topics, as a bag has")
        definitions = self._definitions()
        # Older bags have neither of these two.
        qos, digest = (
            name if name in columns else "''"
            for name in ("offered_qos_profiles", "type_description_hash")
        )
        rows = self._database.execute(
            f"SELECT id, name, type, serialization_format, {qos}, {digest} FROM topics ORDER BY id"
        )
        for number, *fields in rows.fetchall():
            name, kind, serialization, profiles, type_hash = map(str, fields)
            if serialization != "cdr" or not isinstance(number, int):
                self._note(f"the topic {name} is in {serialization!r}, not in CDR: left out")
                continue
            form, text, own_hash = definitions.get(kind, ("", "", ""))
            self.topics[number] = StoredTopic(
                name, kind, 0, profiles, form, text, type_hash or own_hash
            )

    def _definitions(self) -> dict[str, tuple[str, str, str]]:
        """Read format, text and hash of each type that the file defines; older files have none."""
        found: dict[str, tuple[str, str, str]] = {}
        with contextlib.suppress(sqlite3.Error):
            for row in self._database.execute(
                "SELECT topic_type, encoding, encoded_message_definition, type_description_hash"
                " FROM message_definitions ORDER BY id DESC"
            ):
                kind, encoding, text, digest = map(str, row)
                form = {"ros2msg": "msg", "ros2idl": "idl"}.get(encoding, "")
                found[kind] = form, text if form else "", digest
        return found

    def _found_messages(self) -> NDArray[np.int64]:
        """Find number, topic and time of each message, (n, 3), in the order of their times."""
        rows, is_whole = self._walk("ASC", -_LARGEST_ID, _LARGEST_ID)
        if not is_whole:
            last = rows[-1][0] if rows else -_LARGEST_ID
            behind, _ = self._walk("DESC", last + 1, _LARGEST_ID)
            rows += reversed(behind)
            self._note("its table of messages is damaged: read around the damage")
        known = [row for row in rows if row[1] in self.topics]
        if len(known) < len(rows):
            self._note(f"{len(rows) - len(known)} messages are of no known topic")
        good = are_plausible([row[2] for row in known])
        kept = [row for row, is_good in zip(known, good, strict=True) if is_good]
        if len(kept) < len(known):
            self._note(f"{len(known) - len(kept)} messages have times that cannot be")
        index = np.array(kept, np.int64).reshape(-1, 3)
        return index[np.argsort(index[:, 2], kind="stable")]

    def _walk(
        self, direction: str, first: int, last: int
    ) -> tuple[list[tuple[int, int, int]], bool]:
        """Read the index fields of messages in that direction, up to damage; and whether there is
        none."""
        rows: list[tuple[int, int, int]] = []
        before: int | None = None
        try:
            for row in self._database.execute(
                f"SELECT {_INDEX_FIELDS} FROM messages NOT INDEXED WHERE id BETWEEN ? AND ?"
                f" ORDER BY id {direction}",
                (first, last),
            ):
                if not all(isinstance(value, int) for value in row):
                    self._note("a message without a number or time is left out")
                    continue
                # A damaged table can lead in a circle.
                if before is not None and (row[0] <= before) == (direction == "ASC"):
                    return rows, False
                before = row[0]
                rows.append(row)
        except (sqlite3.Error, MemoryError):
            return rows, False
        return rows, True

    def _count(self) -> None:
        counts = Counter(self._index[:, 1].tolist())
        for number, topic in self.topics.items():
            self.topics[number] = dataclasses.replace(topic, messages=counts[number])
        if len(self._index):
            self.start_ns, self.end_ns = int(self._index[0, 2]), int(self._index[-1, 2])

    def _note(self, text: str) -> None:
        if text not in self.damage:
            self.damage.append(text)
