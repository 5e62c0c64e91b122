"""A video's steadiness: motion that is known, a scene that stands still, the command."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from unirestore_ros.evaluate import video
from unirestore_ros.evaluate.command import main
from unirestore_ros.evaluate.video import deviation, motion, read_video

SHIFT = 3


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    """A texture that moves to the right by SHIFT pixels a frame."""
    noise = np.random.default_rng(0).uniform(0, 255, (96, 200, 3)).astype(np.float32)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    wide = texture.astype(np.uint8)
    return [wide[:, 40 - SHIFT * i :][:, :128].copy() for i in range(3)]


@pytest.fixture
def clip(frames: list[np.ndarray], tmp_path: Path) -> Path:
    writer = cv2.VideoWriter(
        str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (128, 96)
    )
    for frame in frames:
        writer.write(frame[..., ::-1].copy())
    writer.release()
    return tmp_path / "clip.avi"


def test_what_only_moves_has_no_error(frames: list[np.ndarray]) -> None:
    moved = motion(frames[0], frames[1])
    assert moved.known.mean() > 0.7
    columns = np.arange(128, dtype=np.float32)[None, :]
    assert np.median((moved.x - columns)[moved.known]) == pytest.approx(-SHIFT, abs=0.2)
    still = float(np.abs(frames[1].astype(float) - frames[0]).mean())
    assert moved.error(frames[0], frames[1]) < 0.15 * still
    brighter = np.clip(frames[1].astype(int) + 20, 0, 255).astype(np.uint8)
    assert moved.error(frames[0], brighter) == pytest.approx(20, abs=3)


def test_deviation_is_over_time() -> None:
    steady = [np.full((4, 4, 3), 7, np.uint8)] * 3
    assert deviation(steady) == 0
    assert deviation([np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 10, np.uint8)]) == 5


def test_the_command_measures_a_video(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "STATIC_FRAMES", 3)
    out = tmp_path / "v.json"
    assert main(["--video", str(clip), "--frames", "3", "--out", str(out)]) == 0
    content = json.loads(out.read_text())
    assert content["meta"]["size"] == "128x96"
    static = {(row["input"], row["method"]): row["std"] for row in content["video"]["static"]}
    assert static["clean", "unirestore"] == 0
    assert static["noise", "unirestore"] < static["noise", "untouched"]
    moving = {(row["input"], row["method"]): row for row in content["video"]["clip"]}
    assert {name for name, _ in moving} == {"clean", "noise", "rain"}
    errors = [moving["noise", name]["warp_error"] for name in ("unirestore", "untouched")]
    assert 0 < errors[0] < errors[1]
    assert moving["clean", "untouched"]["psnr"] == 100


def test_what_is_no_video_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"clip.mp4 is not a video"):
        read_video(tmp_path / "clip.mp4", 3)
    with pytest.raises(SystemExit):
        main(["--video", str(tmp_path / "clip.mp4")])
    assert "--out FILE.json is needed" in capfd.readouterr().err
