"""Read what INPUT may be: a video, a folder of images, or a rosbag2."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from unirestore_ros.recordings import RecordingError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
_FALLBACK_FPS = 30.0


class SourceFrame(NamedTuple):
    """One frame of an INPUT: (H, W, 3) uint8 BGR, and its time after the first if it has one."""

    image: np.ndarray
    offset_ns: int | None


class Source(Protocol):
    """An INPUT, opened; ``frames`` may be called more than once."""

    @property
    def description(self) -> str:
        """What it is, in words for the user."""

    @property
    def length(self) -> int | None:
        """Number of frames, None where only playing would tell."""

    def frames(self) -> Iterator[SourceFrame]:
        """Frames in order; RecordingError where one cannot be read."""


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """Image files in one folder, in the order of their names."""

    folder: Path
    files: tuple[Path, ...]

    @property
    def description(self) -> str:
        return f"{len(self.files)} images of {self.folder}"

    @property
    def length(self) -> int | None:
        return len(self.files)

    def frames(self) -> Iterator[SourceFrame]:
        for path in self.files:
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is None:
                raise RecordingError(f"{path} cannot be read as an image: fix or remove it")
            yield SourceFrame(image, None)


@dataclasses.dataclass(frozen=True)
class VideoSource:
    """A video that OpenCV's FFmpeg reads."""

    path: Path
    length: int | None
    fps: float

    @property
    def description(self) -> str:
        return f"the video {self.path} ({self.fps:g} frames/s)"

    def frames(self) -> Iterator[SourceFrame]:
        capture = cv2.VideoCapture(str(self.path))
        try:
            index = 0
            while True:
                read, image = capture.read()
                if not read:
                    return
                yield SourceFrame(image, round(index * 1e9 / self.fps))
                index += 1
        finally:
            capture.release()


@dataclasses.dataclass(frozen=True)
class BagSource:
    """The images of one topic of a bag, at their own times."""

    folder: Path
    topic: str
    length: int | None

    @property
    def description(self) -> str:
        return f"{self.topic} of the bag {self.folder}"

    def frames(self) -> Iterator[SourceFrame]:
        # Needs rosbags and ROS's messages, which no other INPUT does.
        from unirestore_ros.recordings.fitting import decode_message
        from unirestore_ros.recordings.storage import (
            COMPRESSED_IMAGE,
            image_topics,
            open_reader,
            read_header,
        )

        with open_reader(self.folder) as reader:
            first: int | None = None
            connections = image_topics(reader, [self.topic])[self.topic]
            for connection, received, data in reader.messages(connections):
                try:
                    image = decode_message(data, connection.msgtype == COMPRESSED_IMAGE)
                except ValueError as error:
                    raise RecordingError(f"{self.description}: {error}") from error
                header = read_header(data)
                stamp = header.stamp_ns if header is not None and header.stamp_ns else received
                first = stamp if first is None else first
                yield SourceFrame(image, stamp - first)


def is_bag(path: Path) -> bool:
    """Whether a path is a rosbag2's folder, or one of its files."""
    return path.suffix in (".db3", ".mcap") or (path / "metadata.yaml").is_file()


def open_source(path: Path, topic: str | None = None) -> Source:
    """Open an INPUT by what it is; RecordingError says what is wrong with it.

    ``topic`` chooses the camera of a bag; the first image topic is played where it is None.
    """
    if not path.exists():
        raise RecordingError(
            f"there is no {path}: INPUT is a video, a folder of images or a rosbag2"
        )
    if is_bag(path):
        return _open_bag(path, topic)
    if topic is not None:
        raise RecordingError(f"{path} is not a rosbag2: --topic does not apply")
    return _open_folder(path) if path.is_dir() else _open_video(path)


def _open_bag(path: Path, topic: str | None) -> BagSource:
    if importlib.util.find_spec("rosbags") is None:
        raise RecordingError("reading a bag needs rosbags: pip install 'unirestore_ros[bag]'")
    from unirestore_ros.recordings.storage import bag_folder, image_topics, open_reader

    folder = bag_folder(path)
    with open_reader(folder) as reader:
        topics = image_topics(reader, [] if topic is None else [topic])
        chosen = next(iter(topics))
        length = sum(connection.msgcount for connection in topics[chosen])
    return BagSource(folder, chosen, length)


def _open_folder(folder: Path) -> FolderSource:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        suffixes = " ".join(IMAGE_SUFFIXES)
        raise RecordingError(
            f"{folder} holds no images ({suffixes}) and no rosbag2 (metadata.yaml)"
        )
    return FolderSource(folder, tuple(files))


def _open_video(path: Path) -> VideoSource:
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened() or not capture.grab():
            raise RecordingError(
                f"{path} holds no video that OpenCV can read: convert it to MP4 first"
            )
        fps = capture.get(cv2.CAP_PROP_FPS)
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        capture.release()
    return VideoSource(path, count if count > 0 else None, fps if fps > 0 else _FALLBACK_FPS)
