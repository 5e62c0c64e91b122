"""INPUTs: videos and folders of images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.sources import open_source


def plain(level: int) -> np.ndarray:
    return np.full((48, 64, 3), level, np.uint8)


def write_video(path: Path, levels: list[int], fps: float) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (64, 48))
    for level in levels:
        writer.write(plain(level))
    writer.release()


def test_folder_is_played_in_the_order_of_names(tmp_path: Path) -> None:
    for name, level in (("b.png", 20), ("a.jpg", 10), ("c.PNG", 30)):
        assert cv2.imwrite(str(tmp_path / name), plain(level))
    (tmp_path / "notes.txt").write_text("not an image")
    source = open_source(tmp_path)
    assert source.length == 3
    frames = list(source.frames())
    assert [round(frame.image.mean()) for frame in frames] == [10, 20, 30]
    assert all(frame.offset_ns is None for frame in frames)


def test_grey_image_comes_as_three_channels(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "grey.png"), np.full((4, 6), 99, np.uint8))
    (frame,) = open_source(tmp_path).frames()
    assert frame.image.shape == (4, 6, 3)


def test_broken_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not a PNG")
    with pytest.raises(RecordingError, match=r"broken\.png cannot be read"):
        list(open_source(tmp_path).frames())


def test_video_has_its_times_and_can_be_read_twice(tmp_path: Path) -> None:
    path = tmp_path / "drive.mp4"
    write_video(path, [10, 100, 200], 25.0)
    source = open_source(path)
    assert source.length == 3
    for _ in range(2):
        frames = list(source.frames())
        assert [frame.offset_ns for frame in frames] == [0, 40_000_000, 80_000_000]
        means = [frame.image.mean() for frame in frames]
        assert np.allclose(means, [10, 100, 200], atol=6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "there is no"),
        (lambda path: path.mkdir(), "holds no images"),
        (lambda path: path.write_text("not a video"), "no video that OpenCV can read"),
    ],
)
def test_what_cannot_be_played_is_refused(tmp_path: Path, make: object, words: str) -> None:
    path = tmp_path / "input"
    make(path)
    with pytest.raises(RecordingError, match=words):
        open_source(path)


def test_a_folder_with_one_video_is_that_video(tmp_path: Path) -> None:
    for name in ("drive.mp4", "another.MP4"):
        writer = cv2.VideoWriter(
            str(tmp_path / "made.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48)
        )
        writer.write(np.zeros((48, 64, 3), np.uint8))
        writer.release()
        (tmp_path / "made.mp4").rename(tmp_path / name)
        if name == "drive.mp4":
            assert "drive.mp4" in open_source(tmp_path).description
    with pytest.raises(RecordingError, match=r"holds 2 videos: name one, .*another\.MP4"):
        open_source(tmp_path)


def test_topic_of_a_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "drive.mp4"
    write_video(path, [10], 25.0)
    with pytest.raises(RecordingError, match="--topic does not apply"):
        open_source(path, "/camera")
