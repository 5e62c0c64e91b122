"""Read what INPUT may be: a video, a folder of images, or a rosbag2."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.storage_file import bag_files, is_bag_file

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg")
_FALLBACK_FPS = 30.0

_log = logging.getLogger(__name__)


class SourceFrame(NamedTuple):
    """One frame of an INPUT: (H, W, 3) uint8 BGR, and its time after the first if it has one."""

    image: np.ndarray
    offset_ns: int | None


@dataclasses.dataclass(frozen=True)
class Source:
    """An INPUT, opened."""

    description: str
    """What it is, in words for the user."""
    length: int | None
    """Number of frames, None where only reading would tell."""
    frames: Callable[[], Iterator[SourceFrame]]
    """Reads the frames in order, as often as it is called; RecordingError where one cannot be
    read."""
    files: tuple[Path, ...] = ()
    """The image files of a folder."""
    fps: float | None = None
    """Frames a second of a video."""


def open_source(path: Path, topic: str | None = None, assume_encoding: str = "") -> Source:
    """Open an INPUT by what it is; RecordingError says what is wrong with it.

    ``topic`` chooses the camera of a bag; the first is read where it is None. ``assume_encoding``
    is as the node's parameter.
    """
    if not path.exists():
        raise RecordingError(
            f"there is no {path}: INPUT is a video, a folder of images or a rosbag2"
        )
    if is_bag(path):
        return _open_bag(path, topic, assume_encoding)
    if topic is not None:
        raise RecordingError(f"{path} is not a rosbag2: --topic does not apply")
    return _open_folder(path) if path.is_dir() else _open_video(path)


def is_bag(path: Path) -> bool:
    """Tell whether a path is a rosbag2: a folder with metadata or storage files, or one of
    those."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or bool(bag_files(path))
    return is_bag_file(path)


def is_image(path: Path) -> bool:
    """Tell whether a path is an image file, by its suffix."""
    return path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES


def open_images(files: tuple[Path, ...], description: str) -> Source:
    """Open image files, in the order given."""

    def frames() -> Iterator[SourceFrame]:
        for path in files:
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is None:
                raise RecordingError(f"{path} cannot be read as an image: fix or remove it")
            yield SourceFrame(image, None)

    return Source(description, len(files), frames, files=files)


def _open_folder(folder: Path) -> Source:
    files = tuple(sorted(filter(is_image, folder.iterdir())))
    if not files:
        videos = sorted(p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES)
        if len(videos) == 1:
            return _open_video(videos[0])
        if videos:
            raise RecordingError(f"{folder} holds {len(videos)} videos: name one, {videos[0]}")
        suffixes = " ".join(IMAGE_SUFFIXES)
        raise RecordingError(f"{folder} holds no images ({suffixes}), no video and no rosbag2")
    return open_images(files, f"{len(files)} images of {folder}")


def _open_video(path: Path) -> Source:
    """Open a video that OpenCV's FFmpeg reads."""
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
    fps = fps if fps > 0 else _FALLBACK_FPS

    def frames() -> Iterator[SourceFrame]:
        capture = cv2.VideoCapture(str(path))
        try:
            index = 0
            while True:
                read, image = capture.read()
                if not read:
                    return
                yield SourceFrame(image, round(index * 1e9 / fps))
                index += 1
        finally:
            capture.release()

    description = f"the video {path} ({fps:g} frames/s)"
    return Source(description, count if count > 0 else None, frames, fps=fps)


def _open_bag(path: Path, topic: str | None, assume_encoding: str) -> Source:
    """Open the images of one topic of a bag, at the times of their stamps."""
    if importlib.util.find_spec("rosbags") is None:
        raise RecordingError("reading a bag needs rosbags: pip install 'unirestore_ros[bag]'")
    # These need ROS's messages too, which no other INPUT does.
    from unirestore_ros.msgs.camera_frame import CameraTraits
    from unirestore_ros.recordings.cameras import find_cameras, tell_frames_apart
    from unirestore_ros.recordings.fitting import decode_message
    from unirestore_ros.recordings.headers import read_header
    from unirestore_ros.recordings.storage import COMPRESSED_IMAGE, image_topics, open_reader

    said: set[str] = set()
    with open_reader(path, said) as reader:
        wanted = [] if topic is None else [topic]
        cameras = find_cameras(reader, wanted, assume_encoding=assume_encoding)
        chosen = cameras[0]
        has_stamps = tell_frames_apart(reader, chosen.topic)
    if others := [camera.topic for camera in cameras[1:]]:
        _log.info("%s is read; --topic chooses another: %s", chosen.topic, ", ".join(others))
    description = f"{chosen.topic} of the bag {path}"
    if not has_stamps:
        text = "the stamps of %s are all alike: its frames are placed by when they were recorded"
        _log.warning(text, description)

    def frames() -> Iterator[SourceFrame]:
        first: int | None = None
        skipped: Counter[str] = Counter()
        camera = CameraTraits(assume_encoding)
        with open_reader(path, said) as reader:
            connections = image_topics(reader, [chosen.topic])[chosen.topic]
            for connection, received, data in reader.messages(connections):
                try:
                    image = decode_message(data, connection.msgtype == COMPRESSED_IMAGE, camera)
                except ValueError as error:
                    skipped[str(error)] += 1
                    continue
                header = read_header(data)
                has_own = has_stamps and header is not None and header.stamp_ns
                stamp = header.stamp_ns if header is not None and has_own else received
                first = stamp if first is None else first
                yield SourceFrame(image, stamp - first)
        for reason, count in skipped.items():
            _log.warning("%d frames of %s were skipped: %s", count, description, reason)

    return Source(description, chosen.messages, frames)
