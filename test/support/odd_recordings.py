"""What tests of recordings as people have them share: a drive, its messages, what was warned of."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from unirestore_ros.recordings.storage import open_reader

CAMERA = "/camera/image_raw"
# What `make_drive` writes: a text, and an image, its CameraInfo and a steering angle a frame.
FRAMES, MESSAGES = 4, 13


def all_messages(path: Path) -> list[tuple[str, int, bytes]]:
    with open_reader(path) as reader:
        return [(c.topic, when, bytes(data)) for c, when, data in reader.messages()]


def storage_file(folder: Path) -> Path:
    return next(path for path in folder.iterdir() if path.name != "metadata.yaml")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
