"""What `make demo INPUT=` may be: a video, a folder of images, or a rosbag2."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from unirestore_ros.recordings.errors import MediaError

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
        """Frames in order; MediaError where one cannot be read."""


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
                raise MediaError(f"{path} cannot be read as an image: mend or remove it")
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


def open_source(path: Path, topic: str | None = None) -> Source:
    """Open an INPUT by what it is; MediaError says what is wrong with it.

    ``topic`` chooses the camera of a bag; the first image topic is played where it is None.
    """
    if not path.exists():
        raise MediaError(f"there is no {path}: INPUT is a video, a folder of images or a rosbag2")
    if path.suffix in (".db3", ".mcap") or (path / "metadata.yaml").is_file():
        # Only a bag needs rosbags.
        from unirestore_ros.recordings.bags import open_bag

        return open_bag(path, topic)
    if topic is not None:
        raise MediaError(f"{path} is not a rosbag2: --topic does not apply")
    return _open_folder(path) if path.is_dir() else _open_video(path)


def _open_folder(folder: Path) -> FolderSource:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        suffixes = " ".join(IMAGE_SUFFIXES)
        raise MediaError(f"{folder} holds no images ({suffixes}) and no rosbag2 (metadata.yaml)")
    return FolderSource(folder, tuple(files))


def _open_video(path: Path) -> VideoSource:
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened() or not capture.grab():
            raise MediaError(f"{path} holds no video that OpenCV can read: convert it to MP4 first")
        fps = capture.get(cv2.CAP_PROP_FPS)
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        capture.release()
    return VideoSource(path, count if count > 0 else None, fps if fps > 0 else _FALLBACK_FPS)
