"""The report of a play with known contents."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from unirestore_ros.demo.drive import CAMERA
from unirestore_ros.demo.record import Frames, Record, open_frames
from unirestore_ros.demo.report import (
    Report,
    StretchReport,
    best_classical,
    make_report,
    measure_stretch,
    table,
)
from unirestore_ros.recordings.make import NewFrame, make_bag

# Levels off everywhere: 2 (restored), 20 (fog) and 10 (rain).
TWO_OFF, TEN_OFF, TWENTY_OFF = (float(20 * np.log10(255 / off)) for off in (2, 10, 20))
SUBTRACTED = {
    "untouched": lambda image: image,
    "less ten": lambda image: image - np.uint8(10),
    "red only": lambda image: image * np.array([1, 0, 0], np.uint8),
}


def measured(frames: Frames, record: Record) -> list[StretchReport]:
    restored = {shown.number: shown for shown in record.restored}
    return [
        measure_stretch(frames, stretch, restored, SUBTRACTED, lambda: None)
        for stretch in frames.bag.stretches()
    ]


@pytest.fixture
def report(frames: Frames, record: Record) -> Report:
    return make_report(record, measured(frames, record), {"input": "test"})


def test_record_joins_by_stamp(record: Record) -> None:
    assert [shown.number for shown in record.shown] == [0, 1, 3, 4, 5]
    assert [shown.number for shown in record.restored] == [0, 1, 4, 5]
    assert all(shown.latency_ms == pytest.approx(50.0) for shown in record.shown)
    assert all(shown.age_ms == 48.5 for shown in record.shown)
    assert [each.number for each in record.features["segmentation"] if each.is_kept] == [1, 4]
    assert record.diagnostics["backend"] == "onnxruntime"
    assert record.verdict == "camera mode: disabled"


def test_counts_and_times(report: Report) -> None:
    assert (report["frames_in"], report["frames_out"], report["frames_camera"]) == (6, 4, 1)
    assert report["rate"] == 5.0
    assert report["fps"] == 3.0  # four frames, of which the last comes a second after the first
    assert report["latency_ms"] == {"p50": 50.0, "p99": 50.0}
    assert (report["backend"], report["bundle"]) == ("onnxruntime", "tiny")


def test_psnr_is_of_the_frames_that_came_out(report: Report) -> None:
    fog, rain = report["stretches"]
    assert (fog["name"], fog["frames_in"], fog["frames_out"]) == ("fog", 3, 2)
    assert (rain["name"], rain["frames_in"], rain["frames_out"]) == ("rain", 3, 2)
    assert fog["psnr_db"] == {
        "degraded": round(TWENTY_OFF, 2),
        "classical": round(TEN_OFF, 2),
        "restored": round(TWO_OFF, 2),
    }
    assert report["psnr_db"]["degraded"] == round((TWENTY_OFF + TEN_OFF) / 2, 2)
    assert report["psnr_db"]["restored"] == round(TWO_OFF, 2)


def test_classical_is_the_best_for_each_stretch(report: Report) -> None:
    assert [stretch["classical_method"] for stretch in report["stretches"]] == ["less ten"] * 2


def test_classical_method_sees_rgb(frames: Frames, tmp_path: Path) -> None:
    """A red frame, BGR in the bag, is kept by the method that keeps red."""
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 2] = 50
    made = [NewFrame(index * 10**8, red, red, (64, 48)) for index in range(3)]
    times = make_bag(made, tmp_path / "red", CAMERA, 10**18, "sqlite3")
    bag = dataclasses.replace(frames.bag, folder=tmp_path / "red", times_ns=tuple(times))
    methods = {"black": np.zeros_like, "red only": SUBTRACTED["red only"]}
    with open_frames(bag, tmp_path / "recorded") as reds:
        assert best_classical(reds, [0, 1, 2], methods) == "red only"


def test_feature_topics(report: Report) -> None:
    assert report["feature_topics"] == {
        "/demo/unirestore/segmentation/features": {
            "encoding": "32FC4",
            "height": 12,
            "width": 16,
            "messages": 4,
        }
    }


def test_without_clean_frames_psnr_is_null(frames: Frames, record: Record) -> None:
    frames.bag = dataclasses.replace(frames.bag, has_clean=False)
    report = make_report(record, measured(frames, record), {})
    nothing = {"degraded": None, "classical": None, "restored": None}
    assert report["psnr_db"] == nothing
    assert all(stretch["psnr_db"] == nothing for stretch in report["stretches"])
    assert report["stretches"][0]["frames_out"] == 2
    assert "-" in table(report)


def test_report_is_json_and_a_table(report: Report) -> None:
    assert json.loads(json.dumps(report)) == report
    lines = table(report).splitlines()
    (fog,) = (line for line in lines if line.startswith("fog"))
    assert fog.split() == ["fog", "22.11", "28.13", "42.11", "3", "2", "less", "ten"]
    assert lines[-1].split()[0] == "all"
