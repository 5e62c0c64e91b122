"""Videos written by OpenCV's FFmpeg, and counted once they are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from unirestore_ros.recordings.errors import MediaError


def write_video(path: Path, pictures: Iterable[np.ndarray], fps: float) -> None:
    """An MP4 (MPEG-4 part 2) of the pictures, read back; MediaError where OpenCV makes none."""
    writer: cv2.VideoWriter | None = None
    written = 0
    try:
        for picture in pictures:
            if writer is None:
                writer = _open_writer(path, (picture.shape[1], picture.shape[0]), fps)
            writer.write(picture)
            written += 1
    finally:
        if writer is not None:
            writer.release()
    if (readable := _frames_in(path)) != written:
        raise MediaError(f"{path.name}: {written} frames were written, {readable} can be read back")


def _open_writer(path: Path, size: tuple[int, int], fps: float) -> cv2.VideoWriter:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    if not writer.isOpened():
        raise MediaError(
            f"OpenCV {cv2.__version__} cannot write MP4 videos here: it was built without FFmpeg;"
            " install opencv-python-headless from PyPI"
        )
    return writer


def _frames_in(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    try:
        count = 0
        while capture.grab():
            count += 1
        return count
    finally:
        capture.release()
