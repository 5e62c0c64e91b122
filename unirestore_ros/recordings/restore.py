"""`restore IN OUT`: restore an image, a folder of images or a video offline, as the node would.

Each output is written beside its place and renamed when it is whole.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from unirestore_ros.engine import BundleError, Engine, InferenceError, open_engine
from unirestore_ros.files import folder_written_beside, written_beside
from unirestore_ros.recordings import RecordingError, images
from unirestore_ros.recordings.images import Size, swap_red_and_blue, write_image, write_video
from unirestore_ros.recordings.sources import (
    IMAGE_SUFFIXES,
    FolderSource,
    Source,
    VideoSource,
    is_bag,
    open_source,
)
from unirestore_ros.signals import signals_as_exits

DEFAULT_TASK = "perception"
INTERRUPTED = 130  # exit status after SIGINT, as shells have it

_log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 when OUT is whole; else 1, or 130 when interrupted, and OUT is as it was."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with (
            signals_as_exits(),
            logging_redirect_tqdm(),
            open_engine(
                arguments.bundle, arguments.backend, arguments.device, arguments.threads
            ) as engine,
        ):
            count = restore(engine, arguments.input, arguments.out, arguments.task, arguments.fit)
    except (RecordingError, BundleError, InferenceError, OSError) as error:
        _log.error("restore: %s", error)
        return 1
    except KeyboardInterrupt:
        _log.error("restore: interrupted")
        return INTERRUPTED
    print(f"{arguments.out}: {count} {'image' if count == 1 else 'images'} restored")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="unirestore_ros restore", description=__doc__)
    add = parser.add_argument
    add("input", type=Path, metavar="IN", help="an image, a folder of images or a video")
    add("out", type=Path, metavar="OUT", help="image, folder or .mp4 to write")
    add("--task", default=DEFAULT_TASK, help=f"whose prompt decodes ({DEFAULT_TASK})")
    add("--fit", action="store_true", help="scale and crop to the size that the bundle takes")
    add_engine_arguments(parser)
    return parser


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `open_engine` takes: bundle, backend, device, threads."""
    add = parser.add_argument
    add("--bundle", default="tiny", help="name or folder of the bundle (tiny)")
    add("--backend", default="auto", help="auto, tensorrt, torch, onnxruntime, openvino (auto)")
    add("--device", type=int, default=0, metavar="N", help="number of the CUDA device (0)")
    add("--threads", type=int, default=0, metavar="N", help="of the CPU; 0: one a core")


def restore(engine: Engine, source: Path, out: Path, task: str, fit: bool) -> int:
    """Restore what ``source`` is to ``out``, which must be absent or a file; returns how many.

    RecordingError where it cannot be read or written, or has a size that the bundle does not take
    and ``fit`` is false.
    """
    if task not in engine.tasks:
        raise RecordingError(
            f"the bundle {engine.bundle.name} has no task {task!r}: {', '.join(engine.tasks)}"
        )
    opened = _open(source)
    restored = _RestoredImages(engine, opened, task, fit)
    if isinstance(opened, VideoSource):
        _check_suffix(out, (".mp4",))
        with written_beside(out) as path:
            write_video(path, restored, opened.fps)
        _log.info("the video's sound, where it has any, is left out")
    elif source.is_dir():
        _write_folder(opened, restored, out)
    else:
        _check_suffix(out, IMAGE_SUFFIXES)
        with written_beside(out) as path:
            for image in restored:
                write_image(path, image)
    return restored.count


class _RestoredImages:
    """Iterates over restored images, (H, W, 3) uint8 BGR, with a progress bar; counts them."""

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
            self._engine.run_trunk(swap_red_and_blue(self._fitted(frame.image)))
            self.count += 1
            yield swap_red_and_blue(self._engine.decode(self._task))
        if self.count == 0:
            raise RecordingError(f"{self._source.description}: there is no frame in it")

    def _fitted(self, image: np.ndarray) -> np.ndarray:
        size = image.shape[1], image.shape[0]
        takes = self._engine.input_size
        if size != takes and not self._fit:
            sizes = ["{}x{}".format(*each) for each in (size, takes)]
            command = self._engine.bundle.build_command("--size", sizes[0])
            raise RecordingError(
                f"{self._source.description}: image {self.count + 1} is {sizes[0]}, the bundle"
                f" {self._engine.bundle.name} takes {sizes[1]}: build one for it ({command}), or"
                f" say --fit to have it scaled and cropped to {sizes[1]}"
            )
        if size != self._seen:
            self._seen = size
            _log.info("%s", images.describe_fit(size, takes))
        return images.fit(image, takes)


def _open(source: Path) -> Source:
    if source.is_file() and source.suffix.lower() in IMAGE_SUFFIXES:
        return FolderSource(source.parent, (source,))
    if is_bag(source):
        raise RecordingError(f"{source} is a rosbag2: use `bag restore`")
    return open_source(source)


def _write_folder(source: Source, restored: _RestoredImages, out: Path) -> None:
    """Every image under its own name."""
    if out.exists():
        raise RecordingError(f"{out} exists: name another OUT")
    assert isinstance(source, FolderSource)
    with folder_written_beside(out) as folder:
        for path, image in zip(source.files, restored, strict=True):
            write_image(folder / path.name, image)


def _check_suffix(out: Path, suffixes: tuple[str, ...]) -> None:
    if out.suffix.lower() not in suffixes:
        raise RecordingError(f"{out} must end in {' or '.join(suffixes)}")
