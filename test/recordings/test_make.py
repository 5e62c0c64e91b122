"""`bag make`: bags that rosbags and ROS read, of videos and folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from unirestore_ros.recordings.bag_command import main

SIZE = (64, 48)


def plain(level: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.full((size[1], size[0], 3), level, np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "frames"
    source.mkdir()
    for number, level in enumerate((20, 120, 220)):
        assert cv2.imwrite(str(source / f"{number}.png"), plain(level))
    return source


def make(*words: object) -> int:
    return main(["make", *map(str, words)])


def read(folder: Path) -> dict[str, list[Any]]:
    """Times and messages by topic."""
    found: dict[str, list[Any]] = {}
    with AnyReader([folder]) as reader:
        for connection, when, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            found.setdefault(connection.topic, []).append((when, message))
    return found


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_a_folder_of_images_at_a_rate(folder: Path, tmp_path: Path, storage: str) -> None:
    out = tmp_path / "bag"
    assert make(folder, out, "--rate", 20, "--start", 1000, "--storage", storage) == 0
    topics = read(out)
    assert set(topics) == {"/camera/image_raw", "/camera/camera_info"}
    times = [when for when, _ in topics["/camera/image_raw"]]
    assert times == [1000 * 10**9 + index * 50_000_000 for index in range(3)]
    for (when, image), level in zip(topics["/camera/image_raw"], (20, 120, 220), strict=True):
        assert image.header.stamp.sec * 10**9 + image.header.stamp.nanosec == when
        assert (image.encoding, image.width, image.height, image.step) == ("bgr8", 64, 48, 192)
        assert (image.data == level).all()
    info = topics["/camera/camera_info"][0][1]
    assert (info.width, info.height) == SIZE and not info.k.any()
    assert str(info.header) == str(topics["/camera/image_raw"][0][1].header)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag", "frames"]


def test_a_video_is_scaled_cropped_and_calibrated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    video = tmp_path / "drive.mp4"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (192, 96))
    for level in (50, 100):
        writer.write(plain(level, (192, 96)))
    writer.release()
    assert make(video, tmp_path / "bag", "--size", "64x48", "--fov", 90, "--start", 5) == 0
    assert "scaled from 192x96 to 96x48 and cropped at the centre" in caplog.text
    topics = read(tmp_path / "bag")
    (first, image), (second, _) = topics["/camera/image_raw"]
    assert (image.width, image.height) == (64, 48) and second - first == 40_000_000
    info = topics["/camera/camera_info"][0][1]
    # 90 degrees over 192 columns: a focal length of 96, halved; the centre stays one.
    assert info.k[0] == pytest.approx(48.0) and info.k[2] == pytest.approx(31.5)
    assert info.p[5] == pytest.approx(48.0) and info.p[6] == pytest.approx(23.5)


def test_degraded_frames_have_their_clean_ones_beside_them(folder: Path, tmp_path: Path) -> None:
    words = "--degrade", "noise", "--compressed", "--topic", "/front/image_raw"
    assert make(folder, tmp_path / "bag", *words) == 0
    topics = read(tmp_path / "bag")
    assert set(topics) == {
        "/front/image_raw/compressed",
        "/front/image_clean/compressed",
        "/front/camera_info",
    }
    decoded = [
        cv2.imdecode(topics[topic][1][1].data, cv2.IMREAD_COLOR).astype(float)
        for topic in ("/front/image_raw/compressed", "/front/image_clean/compressed")
    ]
    assert decoded[1].std() < 1 < decoded[0].std()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["absent", "bag"], "there is no"),
        (["frames", "frames"], "exists"),
        (["frames", "bag", "--degrade", "fogg"], "Did you mean fog?"),
        (["frames", "bag", "--fov", "200"], "from 1 to 180"),
        (["frames", "bag", "--rate", "0"], "not over 0"),
    ],
)
def test_what_cannot_be_made_is_reported_and_leaves_nothing(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, words: list[str], reason: str
) -> None:
    source, out, *rest = words
    assert make(tmp_path / source, tmp_path / out, *rest) == 1
    assert reason in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]


def test_frames_of_two_sizes_need_one(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert cv2.imwrite(str(folder / "9.png"), plain(1, (32, 24)))
    assert make(folder, tmp_path / "bag") == 1
    assert "frame 3 is 32x24, unlike the first: give --size" in caplog.text
    assert not (tmp_path / "bag").exists()
    assert make(folder, tmp_path / "bag", "--size", "64x48") == 0
