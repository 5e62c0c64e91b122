"""`demo` as a user runs it: short, but over DDS with the real node and the shipped bundle."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from unirestore_ros.demo.command import FIGURE, OVERLAY, REPORT, main
from unirestore_ros.engine import open_engine
from unirestore_ros.synthetic.programme import STRETCHES

FRAMES = 12
# A machine that is busy with other tests may take seconds for a frame.
PATIENT = ("fallback_after_ms:=60000", "max_age_ms:=10000", "hang_after_ms:=60000")
PATIENCE = [word for parameter in PATIENT for word in ("--param", parameter)]


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "unirestore_ros", "demo", *arguments, *PATIENCE],
        capture_output=True,
        text=True,
        timeout=500,
    )


@pytest.mark.dds
@pytest.mark.slow
def test_synthetic_drive_from_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = demo("--frames", str(FRAMES), "--out", str(out))
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in out.iterdir()) == sorted((REPORT, OVERLAY, FIGURE))
    report = json.loads((out / REPORT).read_text())
    assert report["frames_in"] == FRAMES
    assert FRAMES // 2 <= report["frames_out"] <= FRAMES
    assert report["fps"] > 0 and 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"]
    with open_engine("tiny") as engine:
        assert (report["backend"], report["bundle"]) == (engine.backend, "tiny")
    assert all(value > 5 for value in report["psnr_db"].values())
    assert [stretch["name"] for stretch in report["stretches"]] == [one.name for one in STRETCHES]
    for task in ("segmentation", "detection"):
        form = report["feature_topics"][f"/demo/unirestore/{task}/features"]
        assert form["messages"] >= FRAMES // 2
        assert form["encoding"].startswith("32FC")
        assert 480 % form["width"] == 0 and 360 % form["height"] == 0
    check_images(out, report)
    for words in ("classical", "low_light", "/demo/unirestore/detection/features"):
        assert words in done.stdout


def check_images(out: Path, report: dict) -> None:
    capture = cv2.VideoCapture(str(out / OVERLAY))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    assert count == report["frames_out"] + report["frames_camera"]
    figure = cv2.imread(str(out / FIGURE))
    assert figure is not None
    assert figure.shape[1] > 5 * 400
    assert figure.std() > 20


@pytest.mark.dds
@pytest.mark.slow
def test_folder_of_images_that_are_not_degraded(tmp_path: Path) -> None:
    """Image and overlay have the size of the frames, not the working size."""
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        coarse = rng.integers(0, 256, (9, 16, 3), dtype=np.uint8)
        assert cv2.imwrite(str(images / f"{index}.png"), cv2.resize(coarse, (960, 540)))
    done = demo("--input", str(images), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "out" / REPORT).read_text())
    assert report["frames_in"] == 3
    maps = report["feature_topics"].values()
    assert {(each["width"], each["height"]) for each in maps} == {(138, 78)}, "of 552x312"
    assert report["psnr_db"] == {"degraded": None, "classical": None, "restored": None}
    capture = cv2.VideoCapture(str(tmp_path / "out" / OVERLAY))
    shown, strip = capture.read()[1][:540], 56
    assert capture.get(cv2.CAP_PROP_FRAME_WIDTH) == 960
    assert capture.get(cv2.CAP_PROP_FRAME_HEIGHT) == 540 + strip
    # Pixel by pixel: the overlay shows the camera's left half, the figure its whole frame.
    first = cv2.imread(str(images / "0.png"))
    assert np.abs(shown[60:, :470].astype(int) - first[60:, :470]).mean() < 5
    figure = cv2.imread(str(tmp_path / "out" / FIGURE))
    # The frame nearest the middle whose features were all kept.
    frames = [cv2.imread(str(images / f"{index}.png")) for index in range(3)]
    places = [
        cv2.minMaxLoc(cv2.matchTemplate(figure, frame, cv2.TM_SQDIFF))[::2] for frame in frames
    ]
    frame, (match, (left, top)) = min(zip(frames, places, strict=True), key=lambda f: f[1][0])
    assert match == pytest.approx(0, abs=1e4)
    restored = figure[top : top + 540, left + 960 :]
    found, _, _, _ = cv2.minMaxLoc(cv2.matchTemplate(restored, frame, cv2.TM_SQDIFF_NORMED))
    assert found < 0.05, "the restored image beside it, of the same size"


@pytest.mark.dds
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    image = tmp_path / "images" / "0.png"
    image.parent.mkdir()
    assert cv2.imwrite(str(image), np.full((360, 480, 3), 100, np.uint8))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    arguments = ("--input", str(image.parent), "--out", str(tmp_path / "out"))
    process = subprocess.Popen(
        [sys.executable, "-m", "unirestore_ros", "demo", *arguments],
        env={**os.environ, "TMPDIR": str(temporary)},
        stderr=subprocess.PIPE,
    )
    assert isinstance(process.stderr, io.BufferedReader)
    try:
        while b"starting the node" not in process.stderr.read1(1 << 10):
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(60) == status
    finally:
        process.kill()
        process.stderr.close()
    assert list(temporary.iterdir()) == []
    assert not (tmp_path / "out").exists()
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(temporary).encode() not in command.read_bytes()
        except OSError:
            continue


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input", "no_such_file.mp4"], "there is no no_such_file.mp4"),
        (["--degrade", "fog"], "DEGRADE and --topic need an INPUT"),
        (["--input", ".", "--degrade", "fogg"], "Did you mean fog?"),
        (["--bundle", "./no_such_bundle"], "no such folder"),
    ],
)
def test_what_cannot_be_played_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, arguments: list[str], words: str
) -> None:
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
    assert words in caplog.text
    assert not (tmp_path / "out").exists()


def test_folder_that_no_demo_wrote_is_not_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "thesis.tex").write_text("do not lose this")
    assert main(["--out", str(tmp_path)]) == 1
    assert "holds thesis.tex, which no demo wrote" in caplog.text
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("arguments", [["--rate", "0"], ["--frames", "-1"], ["--severity", "6"]])
def test_numbers_out_of_range_are_usage_errors(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
