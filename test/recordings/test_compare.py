"""`bag compare`: figures that are known beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bag_maker import MS, START_NS, BagMaker

from unirestore_ros.recordings.bag_command import main

CAMERA, RESTORED, CLEAN = "/camera/image_raw", "/unirestore/image", "/camera/image_clean"
FRAMES = 10


def level(value: int) -> np.ndarray:
    return np.full((48, 64, 3), value, np.uint8)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A camera at 10 Hz that left one frame out; the node restored every other one, 40 ms later."""
    maker = BagMaker(tmp_path / "drive", "mcap")
    types = maker.types.types
    with maker.writer:
        for index in range(FRAMES):
            if index == 5:
                continue
            now = START_NS + index * 100 * MS
            maker.image(CAMERA, now, level(100))
            maker.image(CLEAN, now, level(120))
            if index % 2 == 0:
                header = maker.header(now - 3 * MS, "camera")
                data = level(118).reshape(-1)
                kind = "sensor_msgs/msg/Image"
                image = types[kind](header, 48, 64, "bgr8", 0, 192, data)
                maker.write(RESTORED, kind, now + 40 * MS, image)
                pair = types["diagnostic_msgs/msg/KeyValue"]("mode", "restored")
                kind = "diagnostic_msgs/msg/DiagnosticStatus"
                status = types[kind](0, "unirestore", "", "", [pair])
                kind = "diagnostic_msgs/msg/DiagnosticArray"
                maker.write(
                    "/unirestore/status", kind, now + 41 * MS, types[kind](header, [status])
                )
    return tmp_path / "drive"


def compare(bag: Path, *words: object) -> dict[str, Any]:
    out = bag.parent / "report"
    assert main(["compare", str(bag), "--out", str(out), *map(str, words)]) == 0
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def test_rates_ages_drops_and_psnr(recorded: Path) -> None:
    report = compare(recorded)
    topics = report["topics"]
    assert topics[CAMERA]["messages"] == 9 and topics[CAMERA]["hz"] == pytest.approx(8 / 0.9, 0.01)
    assert topics[CAMERA]["age_ms"]["p50"] == 3.0
    assert topics[RESTORED]["age_ms"]["p50"] == 43.0
    assert topics[RESTORED]["gap_ms"]["p50"] == 200.0
    (camera,) = report["cameras"]
    assert (camera["topic"], camera["frames"], camera["gaps"]) == (CAMERA, 9, 1)
    assert camera["outputs"]["image"]["missing"] == 4
    assert camera["modes"] == {"restored": 5}
    assert camera["psnr_db"] == {
        "camera": pytest.approx(20 * np.log10(255 / 20), abs=0.01),
        "restored": pytest.approx(20 * np.log10(255 / 2), abs=0.01),
        "frames": 5,
    }
    sheet = cv2.imread(str(recorded.parent / "report" / "contact_sheet.png"))
    assert sheet is not None
    # Three columns of each of five rows: the camera's grey, the restored one, the clean one.
    for grey in (100, 118, 120):
        assert (sheet == grey).all(axis=2).sum() > 5 * 300 * 250


def test_a_bag_with_nothing_restored_is_reported_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = BagMaker(tmp_path / "drive")
    with maker.writer:
        maker.image(CAMERA, START_NS, level(1))
        maker.text("/chatter", START_NS, "hello")
    report = compare(tmp_path / "drive")
    assert report["topics"]["/chatter"] == {
        "type": "std_msgs/msg/String",
        "messages": 1,
        "hz": None,
        "gap_ms": None,
        "age_ms": None,
    }
    assert report["cameras"][0]["outputs"] == {}
    assert "nothing restored is in the bag" in capsys.readouterr().out
    assert not (tmp_path / "report" / "contact_sheet.png").exists()


def test_a_bag_without_images_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    maker = BagMaker(tmp_path / "drive")
    with maker.writer:
        maker.text("/chatter", START_NS, "hello")
    assert main(["compare", str(tmp_path / "drive")]) == 1
    assert "has no topic of sensor_msgs/Image" in caplog.text


@pytest.mark.parametrize("stamp_ns", [0, 1_600_000_000 * 10**9])
def test_stamps_that_are_all_alike_are_paired_by_order(
    tmp_path: Path, stamp_ns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = BagMaker(tmp_path / "drive")
    with maker.writer:
        for index in range(8):
            now = START_NS + index * 100 * MS
            maker.image(CAMERA, now, level(100 + index), stamp_ns=stamp_ns)
            maker.image(CLEAN, now, level(120 + index), stamp_ns=stamp_ns)
            if index < 6:
                # A message's header tells which camera a node belongs to.
                header = maker.header(stamp_ns, CAMERA.split("/")[1])
                kind = "sensor_msgs/msg/Image"
                data = level(120 + index).reshape(-1)
                image = maker.types.types[kind](header, 48, 64, "bgr8", 0, 192, data)
                maker.write(RESTORED, kind, now + 40 * MS, image)
    (camera,) = compare(tmp_path / "drive")["cameras"]
    assert camera["paired_by"] == "order"
    assert camera["outputs"]["image"]["missing"] == 2
    assert camera["psnr_db"]["frames"] == 6
    assert camera["psnr_db"]["restored"] > 90 > camera["psnr_db"]["camera"]
    assert "frames are paired by their order" in capsys.readouterr().out
