"""Pictures through an engine, each output written beside its place and renamed when it is whole."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from unirestore_ros.engine import Engine
from unirestore_ros.files import folder_written_beside, written_beside
from unirestore_ros.recordings import scaling
from unirestore_ros.recordings.errors import MediaError
from unirestore_ros.recordings.pictures import write_picture
from unirestore_ros.recordings.scaling import Size
from unirestore_ros.recordings.sources import (
    IMAGE_SUFFIXES,
    FolderSource,
    Source,
    VideoSource,
    open_source,
)
from unirestore_ros.recordings.video import write_video

DEFAULT_TASK = "perception"

_log = logging.getLogger(__name__)


def restore(engine: Engine, source: Path, out: Path, task: str, fit: bool) -> int:
    """Restore what ``source`` is to ``out``, which must be absent or a file; returns how many.

    MediaError where it cannot be read or written, or has a size that the bundle does not take and
    ``fit`` was not said.
    """
    if task not in engine.tasks:
        raise MediaError(
            f"the bundle {engine.bundle.name} has no task {task!r}: {', '.join(engine.tasks)}"
        )
    opened = _open(source)
    pictures = _Restored(engine, opened, task, fit)
    if isinstance(opened, VideoSource):
        _check_suffix(out, (".mp4",))
        with written_beside(out) as path:
            write_video(path, pictures, opened.fps)
        _log.info("the video's sound, where it has any, is left out")
    elif source.is_dir():
        _write_folder(opened, pictures, out)
    else:
        _check_suffix(out, IMAGE_SUFFIXES)
        with written_beside(out) as path:
            for picture in pictures:
                write_picture(path, picture)
    return pictures.count


class _Restored:
    """Iterates over (H, W, 3) uint8 BGR pictures, with a bar; counts them."""

    def __init__(self, engine: Engine, source: Source, task: str, fit: bool) -> None:
        self._engine = engine
        self._source = source
        self._task = task
        self._fit = fit
        self._seen: Size | None = None
        self.count = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        frames = self._source.frames()
        for frame in tqdm(frames, "restoring", self._source.length, unit="frame"):
            rgb = np.ascontiguousarray(self._fitted(frame.image)[:, :, ::-1])
            self._engine.run_trunk(rgb)
            self.count += 1
            yield np.ascontiguousarray(self._engine.decode(self._task)[:, :, ::-1])
        if self.count == 0:
            raise MediaError(f"{self._source.description}: there is no frame in it")

    def _fitted(self, image: np.ndarray) -> np.ndarray:
        size = image.shape[1], image.shape[0]
        takes = self._engine.input_size
        if size != takes and not self._fit:
            sizes = ["{}x{}".format(*each) for each in (size, takes)]
            command = self._engine.bundle.build_command("--size", sizes[0])
            raise MediaError(
                f"{self._source.description}: picture {self.count + 1} is {sizes[0]}, the bundle"
                f" {self._engine.bundle.name} takes {sizes[1]}: build one for it ({command}), or"
                f" say --fit to have it scaled and cropped to {sizes[1]}"
            )
        if size != self._seen:
            self._seen = size
            _log.info("%s", scaling.description(size, takes))
        return scaling.fit(image, takes)


def _open(source: Path) -> Source:
    if source.is_file() and source.suffix.lower() in IMAGE_SUFFIXES:
        return FolderSource(source.parent, (source,))
    if source.suffix in (".db3", ".mcap") or (source / "metadata.yaml").is_file():
        raise MediaError(f"{source} is a rosbag2: use `bag restore`")
    return open_source(source)


def _write_folder(source: Source, pictures: _Restored, out: Path) -> None:
    """Every image under its own name."""
    if out.exists():
        raise MediaError(f"{out} exists: name another OUT")
    assert isinstance(source, FolderSource)
    with folder_written_beside(out) as folder:
        for path, picture in zip(source.files, pictures, strict=True):
            write_picture(folder / path.name, picture)


def _check_suffix(out: Path, suffixes: tuple[str, ...]) -> None:
    if out.suffix.lower() not in suffixes:
        raise MediaError(f"{out} must end in {' or '.join(suffixes)}")
