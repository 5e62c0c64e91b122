"""The bag that is played: of an INPUT, and of the synthetic drive."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from unirestore_ros.demo.drive import CAMERA, DriveBag, check_space, record_drive, record_input
from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.fitting import decode_message
from unirestore_ros.recordings.images import degradation
from unirestore_ros.recordings.make import new_frames
from unirestore_ros.recordings.sources import SourceFrame, open_source
from unirestore_ros.recordings.storage import message_at, open_reader
from unirestore_ros.synthetic import driving
from unirestore_ros.synthetic.drive import demo_frames
from unirestore_ros.synthetic.programme import STRETCHES

MS = 1_000_000
SIZE = (64, 48)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(4):
        noise = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
        assert cv2.imwrite(str(folder / f"{index}.png"), noise)
    return folder


def image(bag: DriveBag, topic: str, index: int) -> np.ndarray:
    with open_reader(bag.folder) as reader:
        return decode_message(message_at(reader, topic, bag.times_ns[index]), False)


def test_input_is_played_as_it_is(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bag = record_input(open_source(pictures), tmp_path / "bag", 5.0, 0, "pictures")
    assert len(bag) == 4
    assert image(bag, CAMERA.image_topic, 0).shape == (120, 160, 3)
    assert not bag.has_clean
    assert [at - bag.times_ns[0] for at in bag.times_ns] == [0, 200 * MS, 400 * MS, 600 * MS]
    assert bag.slowing(5.0) == 1.0


def test_limit_is_kept_and_reported(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bag = record_input(open_source(pictures), tmp_path / "bag", 5.0, 3, "pictures")
    assert len(bag) == 3
    assert "the first 3 of 4 frames" in caplog.text


def test_degraded_input_keeps_its_clean_frames(pictures: Path, tmp_path: Path) -> None:
    source = open_source(pictures)
    bag = record_input(source, tmp_path / "bag", 5.0, 0, "fog", degradation("fog", 3))
    assert bag.has_clean
    clean = image(bag, CAMERA.clean_topic, 1)
    expected = driving.degrade(
        np.ascontiguousarray(clean[..., ::-1]), "fog", 3, driving.frame_rng("demo", "fog", 1)
    )
    assert (image(bag, CAMERA.image_topic, 1) == expected[..., ::-1]).all()


class Source:
    """An INPUT of grey frames at given times, in milliseconds."""

    description = "grey"

    def __init__(self, *times_ms: int | None) -> None:
        self.times_ms = times_ms
        self.length = len(times_ms)

    def frames(self) -> Iterator[SourceFrame]:
        for at in self.times_ms:
            offset = None if at is None else at * MS
            yield SourceFrame(np.zeros((48, 64, 3), np.uint8), offset)


@pytest.mark.parametrize(
    ("recorded", "made"),
    [
        ([None, None, None], [0, 200, 400]),
        ([0, 300, 500], [0, 300, 500]),
        ([0, 30, 50, 100], [0, 30, 50, 100]),
        ([0, 500, 400, 900], [0, 500, 700, 900]),  # time never runs backwards
        ([0, 0, 0], [0, 200, 400]),
        ([0], [0]),
        ([], []),
    ],
)
def test_when_frames_are_due(recorded: list[int | None], made: list[int]) -> None:
    frames = new_frames(Source(*recorded), None, None, default_rate=5.0)
    assert [frame.offset_ns for frame in frames] == [at * MS for at in made]


def test_a_fast_recording_is_slowed_evenly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    source = Source(0, 30, 50, 100)
    bag = record_input(source, tmp_path / "bag", 5.0, 0, "grey")
    assert bag.rate_hz == pytest.approx(30.0)
    assert bag.slowing(5.0) == pytest.approx(6.0)
    assert "30 frames/s are played at 5, 6 times slower than recorded (--rate)" in caplog.text


def test_stretches_are_runs_of_one_name() -> None:
    bag = DriveBag(Path("bag"), (0, 1, 2, 3), ("fog", "fog", "rain", "fog"), False)
    assert list(bag.stretches()) == [
        ("fog", range(0, 2)),
        ("rain", range(2, 3)),
        ("fog", range(3, 4)),
    ]


def test_source_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no frame"):
        record_input(Source(), tmp_path / "bag", 5.0, 0, "x")
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_reported_beforehand(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="set TMPDIR to a larger disk"):
        check_space(tmp_path, 10**12, SIZE)
    check_space(tmp_path, None, SIZE)


def test_drive_is_the_programme_rendered_in_parts(tmp_path: Path) -> None:
    count = len(STRETCHES) + 1
    bag = record_drive(tmp_path / "bag", SIZE, count)
    programme = list(demo_frames(count, SIZE))
    assert list(bag.stretch_of) == [frame.stretch for frame in programme]
    for index in (0, count - 1):
        clean, degraded = programme[index].clean, programme[index].degraded
        assert (image(bag, CAMERA.clean_topic, index) == clean[..., ::-1]).all()
        assert (image(bag, CAMERA.image_topic, index) == degraded[..., ::-1]).all()
    assert bag.rate_hz == pytest.approx(10.0) and bag.slowing(5.0) == pytest.approx(2.0)


def test_too_few_frames_for_the_drive(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="--frames 2 is too few"):
        record_drive(tmp_path / "bag", SIZE, 2)
