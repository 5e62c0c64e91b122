"""Recordings that are cut, damaged or none: what can be read is, with a warning, by every tool."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from pathlib import Path

import numpy as np
import pytest
import yaml
from bag_maker import MS, START_NS, BagMaker, make_drive, street
from bag_mutations import TOOLS, compare, play, read_all, read_source, run
from odd_recordings import CAMERA, FRAMES, MESSAGES, storage_file, warnings

from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.bag_command import main
from unirestore_ros.recordings.storage import open_reader


@pytest.fixture
def one_truncated(tmp_path: Path) -> Path:
    maker = BagMaker(tmp_path / "drive", "mcap")
    with maker.writer:
        for index in range(10):
            now = START_NS + index * 100 * MS
            maker.cut = 200 if index == 4 else None
            maker.image(CAMERA, now, street(index))
            maker.cut = 60 if index == 7 else None
            maker.info("/camera/camera_info", now + MS, now - 3 * MS)
    return tmp_path / "drive"


def test_a_truncated_message_is_skipped_and_counted_by_every_tool(
    one_truncated: Path, miniature: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_source(one_truncated, tmp_path) == 9
    assert "1 frames of /camera/image_raw of the bag" in caplog.text
    caplog.clear()
    assert play(one_truncated, tmp_path) == 18
    assert f"1 messages of {CAMERA} are damaged, not played" in caplog.text
    assert "1 messages of /camera/camera_info are damaged, not played" in caplog.text
    caplog.clear()
    assert compare(one_truncated, tmp_path) == 9
    assert f"1 messages of {CAMERA} are damaged and not counted" in caplog.text
    report = yaml.safe_load((tmp_path / "compared" / "report.json").read_text())
    assert (report["cameras"][0]["frames"], report["cameras"][0]["damaged"]) == (9, 1)
    caplog.clear()
    out = tmp_path / "out"
    assert main(["restore", "--bundle", str(miniature), str(one_truncated), str(out)]) == 0
    assert "1 frames of" in caplog.text and "1 CameraInfos are damaged" in caplog.text
    with open_reader(out) as reader:
        counts = {each.topic: each.msgcount for each in reader.connections}
    assert counts["/unirestore/image"] == 9 and counts[CAMERA] == 10


@pytest.mark.parametrize("compression", ["", "storage"])
def test_what_lies_before_a_cut_is_read_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, compression: str
) -> None:
    maker = BagMaker(tmp_path / "drive", "mcap", compression=compression)
    noise = np.random.default_rng(0)
    with maker.writer:
        for index in range(10):
            pixels = noise.integers(0, 255, (480, 640, 3), np.uint8)
            maker.image(CAMERA, START_NS + index * 100 * MS, pixels)
    file = storage_file(tmp_path / "drive")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (tmp_path / "drive" / "metadata.yaml").unlink()
    assert 3 <= read_all(tmp_path / "drive", tmp_path) <= 5
    (line,) = warnings(caplog)
    assert "ends early" in line and "`mcap recover drive.mcap`" in line
    assert 3 <= read_source(file, tmp_path) <= 5


def test_a_footer_in_the_middle_is_no_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Found by mutation 1546 of seed 1: a garbled record there passed for the end of the file."""
    drive = make_drive(tmp_path / "drive", FRAMES, "mcap")
    content = storage_file(drive).read_bytes()
    (drive / "metadata.yaml").unlink()
    end = b"\x0f" + struct.pack("<QI", 4, 0)  # of the data, before the summary
    place = content.rindex(end)
    footer = b"\x02" + struct.pack("<QQQI", 20, 0, 0, 0)
    storage_file(drive).write_bytes(content[:place] + footer + content[place:-8])
    assert read_all(drive, tmp_path) == MESSAGES
    assert "ends early" in caplog.text


def test_messages_around_a_damaged_page_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The table's pages that hold only numbers and times are found, and one is overwritten."""
    maker = BagMaker(tmp_path / "drive", "sqlite3")
    with maker.writer:
        for index in range(2000):
            maker.text("/chatter", START_NS + index * MS, f"message {index:05d}")
    file = storage_file(tmp_path / "drive")
    content = bytearray(file.read_bytes())
    place = content.find(b"message 01000") // 4096 * 4096
    content[place : place + 4096] = b"\xff" * 4096
    file.write_bytes(content)
    found = read_all(tmp_path / "drive", tmp_path)
    assert 1800 < found < 2000
    assert "damaged" in caplog.text and f"2000 of /chatter where {found} can be read" in caplog.text
    assert "`sqlite3 drive.db3 .recover`" in caplog.text


def test_a_table_that_leads_in_a_circle_ends(tmp_path: Path) -> None:
    drive = make_drive(tmp_path / "drive", FRAMES)
    with sqlite3.connect(storage_file(drive)) as database:
        database.execute("DROP INDEX timestamp_idx")
    assert read_all(drive, tmp_path) == MESSAGES


def test_messages_left_in_the_journal_of_a_killed_recorder_are_read(tmp_path: Path) -> None:
    drive = make_drive(tmp_path / "drive", FRAMES)
    file = storage_file(drive)
    database = sqlite3.connect(file)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(
        "INSERT INTO messages (topic_id, timestamp, data) SELECT topic_id, timestamp + 1, data"
        " FROM messages LIMIT 1"
    )
    database.commit()
    shutil.copytree(drive, tmp_path / "killed")
    database.close()
    assert read_all(tmp_path / "killed", tmp_path) == MESSAGES + 1


def test_a_time_that_cannot_be_is_left_out_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Played, it would be waited for for years."""
    drive = make_drive(tmp_path / "drive", FRAMES)
    with sqlite3.connect(storage_file(drive)) as database:
        database.execute("UPDATE messages SET timestamp = timestamp | (1 << 62) WHERE id = 6")
    assert read_all(drive, tmp_path) == MESSAGES - 1
    assert "1 messages have times that cannot be" in caplog.text


def test_a_chunk_whose_fields_are_zeros_is_no_empty_one(tmp_path: Path) -> None:
    """Its own size is that of the records which it seems not to have."""
    drive = make_drive(tmp_path / "drive", FRAMES, "mcap")
    (drive / "metadata.yaml").unlink()
    content = bytearray(storage_file(drive).read_bytes())
    fields = content.index(b"\x06", 40) + 9  # behind the chunk's opcode and length
    content[fields : fields + 4096] = bytes(4096)
    storage_file(drive).write_bytes(content)
    with (
        pytest.raises(RecordingError, match=rf"tells of {MESSAGES} messages, of which 0"),
        open_reader(drive),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.mcap", b"", r"a\.mcap is empty"),
        ("a.mcap", b"RIFF....AVI ", r"does not begin as an MCAP .*mcap recover a\.mcap"),
        ("a.db3", b"RIFF....AVI ", r"does not begin as an sqlite3"),
        ("a.db3", b"SQLite format 3\0" + b"\0" * 200, r"sqlite3 a\.db3 \.recover"),
        ("a.mcap", b"\x89MCAP0\r\n" + b"\x01" + struct.pack("<Q", 2**63), r"mcap recover"),
    ],
)
def test_what_is_no_recording_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with (
        pytest.raises(RecordingError, match=reason) as caught,
        open_reader(tmp_path / name),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_damaged_bags_by_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The short form of test/support/bag_mutations.py."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    outcomes, failures = run(tmp_path, 40, 20, list(TOOLS))
    assert failures == []
    assert any(name.startswith("restore ") for name in outcomes)
    assert outcomes["read warned"] and outcomes["read refused"] and outcomes["read unharmed"]
