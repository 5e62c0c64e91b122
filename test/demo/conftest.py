"""A small play, made by hand: what was played and what was recorded, with known contents."""

from __future__ import annotations

import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.serialization import serialize_message
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from unirestore_ros.demo import record as recording
from unirestore_ros.demo.drive import CAMERA, STORAGE, DriveBag
from unirestore_ros.demo.record import (
    DIAGNOSTICS,
    RESTORED_IMAGE,
    RESTORER,
    STATUS,
    Frames,
    Record,
    Recorder,
    features_topic,
    open_frames,
)
from unirestore_ros.recordings.arrivals import Arrival
from unirestore_ros.recordings.headers import read_header
from unirestore_ros.recordings.make import NewFrame, make_bag
from unirestore_ros.recordings.writing import new_writer

MS = 1_000_000
START = 1_700_000_000_200_000_000
PERIOD = 200 * MS
SHAPE = (48, 64, 3)
STRETCHES = ("fog", "fog", "fog", "rain", "rain", "rain")
CLEAN = 100
FEATURES = (12, 16, 4)


def stamp(index: int) -> int:
    return START + index * PERIOD


def level(value: int) -> np.ndarray:
    return np.full(SHAPE, value, np.uint8)


def make_drive(folder: Path) -> DriveBag:
    """Six frames of level 100, degraded by 20 levels in the fog and by 10 in the rain."""
    frames = [
        NewFrame(
            index * PERIOD, level(CLEAN + (20 if name == "fog" else 10)), level(CLEAN), (64, 48)
        )
        for index, name in enumerate(STRETCHES)
    ]
    times = make_bag(frames, folder, CAMERA, START, STORAGE)
    return DriveBag(folder, tuple(times), STRETCHES, True)


def make_record(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    """All but frame 2 come out, 50 ms late; frame 3 in camera mode, the others 2 levels off.

    Features of segmentation come for all that are restored, and are kept of frames 1 and 4.
    """
    with new_writer(folder, STORAGE) as writer:
        # In the periods of 600 ms that begin with frame 1 and with frame 4.
        recorder = Recorder(writer, ["segmentation"], 3 * PERIOD)

        def receive(now: int, topic: str, message: object) -> None:
            monkeypatch.setattr(recording.time, "time_ns", lambda: now)
            data = bytes(serialize_message(message))
            recorder.receive(Arrival(topic, type(message), data, read_header(data)))

        # The warm-up comes out too, and does not count.
        for index in (-1, 0, 1, 3, 4, 5):
            now = stamp(index) + 50 * MS
            mode = "camera" if index == 3 else "restored"
            pixels = level(CLEAN + 2)
            receive(now, RESTORED_IMAGE, image(index, "bgr8", pixels))
            values = {"mode": mode, "age_ms": "48.5", "latency_ms": "40.0"}
            receive(now, STATUS, status(index, RESTORER, "", values))
            if mode == "restored":
                features = np.random.default_rng(index + 1).normal(size=FEATURES)
                message = image(index, "32FC4", features.astype(np.float32))
                receive(now, features_topic("segmentation"), message)
        said = ((0, "restored mode"), (3, "camera mode: disabled"), (11, "no camera"))
        for index, words in said:
            values = {"backend": "onnxruntime", "bundle": "tiny"}
            receive(stamp(index), DIAGNOSTICS, status(index, RESTORER, words, values))
            other = status(index, "another", "not ours", {"backend": "x"})
            receive(stamp(index), DIAGNOSTICS, other)
        monkeypatch.undo()
        return recorder.record([stamp(index) for index in range(len(STRETCHES))])


def image(index: int, encoding: str, pixels: np.ndarray) -> Image:
    return Image(
        header=header(index),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        step=pixels[0].nbytes,
        data=array.array("B", pixels.tobytes()),
    )


def status(index: int, name: str, words: str, values: dict[str, str]) -> DiagnosticArray:
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    said = DiagnosticStatus(name=name, message=words, values=pairs)
    return DiagnosticArray(header=header(index), status=[said])


def header(index: int) -> Header:
    return Header(stamp=Time(nanoseconds=stamp(index)).to_msg(), frame_id="camera")


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    return make_record(tmp_path / "recorded", monkeypatch)


@pytest.fixture
def frames(tmp_path: Path, record: Record) -> Iterator[Frames]:
    """What was played and what was recorded, to be read frame by frame."""
    with open_frames(make_drive(tmp_path / "drive"), tmp_path / "recorded") as opened:
        yield opened
