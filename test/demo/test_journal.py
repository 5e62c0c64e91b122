"""Journals: read while they are written, line by line."""

from __future__ import annotations

from pathlib import Path

from unirestore_ros.demo.journal import JournalReader, JournalWriter, read_journal


def test_reader_gets_each_entry_once(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    reader = JournalReader(path)
    assert reader.new_entries() == []
    with JournalWriter(path) as journal:
        journal.add(index=0, stamp=12345678901234567)
        assert reader.new_entries() == [{"index": 0, "stamp": 12345678901234567}]
        journal.add(index=1, file=None)
        journal.add(index=2)
        assert reader.new_entries() == [{"index": 1, "file": None}, {"index": 2}]
        assert reader.new_entries() == []
    assert len(read_journal(path)) == 3


def test_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    reader = JournalReader(path)
    path.write_text('{"a": 1}\n{"a"')
    assert reader.new_entries() == [{"a": 1}]
    assert reader.new_entries() == []
    path.write_text('{"a": 1}\n{"a": 2}\n')
    assert reader.new_entries() == [{"a": 2}]
