"""Recordings of cameras that are odd: stamps all alike, 16 bits, encodings without colours."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bag_maker import MS, START_NS, BagMaker, street

from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.bag_command import main as bag
from unirestore_ros.recordings.cameras import find_cameras
from unirestore_ros.recordings.fitting import Fitter, decode_message
from unirestore_ros.recordings.frames import FrameRestorer
from unirestore_ros.recordings.sources import open_source
from unirestore_ros.recordings.storage import open_reader


def test_stamps_that_are_all_alike_mean_the_time_of_recording(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    maker = BagMaker(tmp_path / "alike")
    with maker.writer:
        for index in range(3):
            maker.image("/camera/image_raw", START_NS + index * 100 * MS, street(index), stamp_ns=5)
    source = open_source(tmp_path / "alike")
    assert [frame.offset_ns for frame in source.frames()] == [0, 100 * MS, 200 * MS]
    assert "are all alike" in caplog.text


@pytest.mark.parametrize("encoding", ["mono16", "bayer_rggb16"])
def test_16_bits_are_scaled_by_what_the_camera_has_shown_before(
    tmp_path: Path, encoding: str
) -> None:
    maker = BagMaker(tmp_path / "deep")
    with maker.writer:
        for index, value in enumerate((4095, 1365)):
            pixels = np.full((48, 64), value, np.uint16)
            maker.image("/camera/image_raw", START_NS + index * 100 * MS, pixels, encoding)
    levels = [int(frame.image.max()) for frame in open_source(tmp_path / "deep").frames()]
    assert levels == [255, 85]


def test_cameras_whose_encoding_is_assumed(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "nameless")
    with maker.writer:
        maker.image("/camera/image_raw", START_NS, street(1), "8UC3")
    with open_reader(tmp_path / "nameless") as reader:
        with pytest.raises(RecordingError, match="set assume_encoding"):
            find_cameras(reader)
        (camera,) = find_cameras(reader, assume_encoding="bgr8")
    assert camera.topic == "/camera/image_raw"


@pytest.mark.parametrize("stamp_ns", [0, 5000 * 10**9, START_NS + 7200 * 10**9])
def test_stamps_of_another_clock_are_no_ages(
    tmp_path: Path, stamp_ns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = BagMaker(tmp_path / "boot")
    with maker.writer:
        for index in range(3):
            now = START_NS + index * 100 * MS
            maker.image("/camera/image_raw", now, street(index), stamp_ns=stamp_ns + index * MS)
    assert bag(["compare", str(tmp_path / "boot"), "--out", str(tmp_path / "out")]) == 0
    (line,) = [each for each in capsys.readouterr().out.splitlines() if "100.0 " in each]
    assert re.split(" {2,}", line)[-2:] == ["other clock", "-"]


def test_every_tool_takes_an_encoding_that_is_assumed(tmp_path: Path) -> None:
    folder = tmp_path / "nameless"
    maker = BagMaker(folder)
    with maker.writer:
        for index in range(3):
            now = START_NS + index * 100 * MS
            maker.image("/camera/image_raw", now, street(index), "8UC3")
            maker.image("/camera/image_clean", now, street(index) + 9)
            maker.image("/camera/unirestore/image", now, street(index))
    frames = list(open_source(folder, assume_encoding="rgb8").frames())
    np.testing.assert_array_equal(frames[0].image, street(0)[..., ::-1])
    with open_reader(folder) as reader:
        fitter = Fitter(reader, (32, 24), ["/camera/image_raw"], "bgr8")
        _, _, data = next(iter(reader.messages()))
        fitted = fitter.fit("/camera/image_raw", data)
    assert fitted is not None and decode_message(fitted, False).shape == (24, 32, 3)
    out = tmp_path / "compared"
    words = ["compare", str(folder), "--out", str(out)]
    assert bag(words) == 1
    assert bag([*words, "--assume-encoding", "bgr8"]) == 0
    (camera,) = json.loads((out / "report.json").read_text())["cameras"]
    assert camera["psnr_db"]["frames"] == 3
    assert camera["psnr_db"]["camera"] == camera["psnr_db"]["restored"]


def test_a_resumed_restoration_scales_16_bits_as_one_that_was_not_interrupted(
    tmp_path: Path,
) -> None:
    maker = BagMaker(tmp_path / "deep")
    with maker.writer:
        maker.image("/camera/image_raw", START_NS, np.full((48, 64), 4095, np.uint16), "mono16")
    with open_reader(tmp_path / "deep") as reader:
        ((_, _, data),) = reader.messages()
    job: Any = SimpleNamespace(
        assume_encoding="", cameras=[SimpleNamespace(compressed=False)], outputs=[]
    )
    engine: Any = None
    restorer = FrameRestorer(job, engine)
    restorer.observe(0, 0, data)
    restorer.observe(1, 0, data[:40])
    assert restorer._traits[0].peak.value == 4095
