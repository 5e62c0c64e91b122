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
from unirestore_ros.engine.backends import AUTO, RUNNABLE
from unirestore_ros.files import folder_written_beside, written_beside
from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.images import (
    swap_red_and_blue,
    write_image,
    write_video,
)
from unirestore_ros.recordings.sources import (
    IMAGE_SUFFIXES,
    Source,
    is_bag,
    is_image,
    open_images,
    open_source,
)
from unirestore_ros.signals import INTERRUPTED, signals_as_exits

DEFAULT_TASK = "perception"

_log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Return the exit status: 0 when OUT is whole; else 1, or 130 when interrupted, and OUT is
    untouched."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with (
            signals_as_exits(),
            logging_redirect_tqdm(),
            open_engine(
                arguments.bundle, arguments.backend, arguments.device_id, arguments.threads
            ) as engine,
        ):
            count = restore(engine, arguments.input, arguments.out, arguments.task)
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
    add_engine_arguments(parser)
    return parser


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `open_engine` takes: bundle, backend, device, threads."""
    add = parser.add_argument
    add("--bundle", default="tiny", help="name or folder of the bundle (tiny)")
    add("--backend", default=AUTO, help=f"{AUTO}, {', '.join(RUNNABLE)} ({AUTO})")
    add(
        "--device",
        dest="device_id",
        type=int,
        default=0,
        metavar="N",
        help="number of the CUDA device (0)",
    )
    add("--threads", type=int, default=0, metavar="N", help="of the CPU; 0: one a core")


def restore(engine: Engine, source: Path, out: Path, task: str) -> int:
    """Restore what ``source`` is to ``out``, which must be absent or a file; returns how many.

    RecordingError where it cannot be read or written, or has a size that is refused.
    """
    if task not in engine.tasks:
        raise RecordingError(
            f"the bundle {engine.bundle.name} has no task {task!r}: {', '.join(engine.tasks)}"
        )
    opened = _open(source)
    _check_suffix(out, opened, source)
    images = _restored_images(engine, opened, task)
    count = 0
    if opened.fps is not None:
        with written_beside(out) as path:
            count = write_video(path, images, opened.fps)
        _log.info("the video's sound, where it has any, is left out")
    elif source.is_dir():
        with folder_written_beside(out) as folder:
            for count, image in enumerate(images, 1):
                write_image(folder / opened.files[count - 1].name, image)
    else:
        with written_beside(out) as path:
            write_image(path, next(images))
            count = 1
    return count


def _open(source: Path) -> Source:
    if is_image(source):
        return open_images((source,), str(source))
    if is_bag(source):
        raise RecordingError(f"{source} is a rosbag2: use `bag restore`")
    return open_source(source)


def _check_suffix(out: Path, opened: Source, source: Path) -> None:
    """Raise RecordingError where OUT cannot hold what INPUT becomes."""
    if opened.fps is None and source.is_dir():
        if out.exists():
            raise RecordingError(f"{out} exists: name another OUT")
        return
    suffixes = IMAGE_SUFFIXES if opened.fps is None else (".mp4",)
    if out.suffix.lower() not in suffixes:
        raise RecordingError(f"{out} must end in {' or '.join(suffixes)}")


def _restored_images(engine: Engine, source: Source, task: str) -> Iterator[np.ndarray]:
    """Restore each frame, with a progress bar, to (H, W, 3) uint8 BGR."""
    count = 0
    frames = tqdm(source.frames(), "restoring", source.length, unit="frame")
    for count, frame in enumerate(frames, 1):
        if problem := engine.refusal(frame.image.shape[1], frame.image.shape[0]):
            raise RecordingError(f"{source.description}: image {count}: {problem}")
        engine.run_trunk(swap_red_and_blue(frame.image))
        yield swap_red_and_blue(engine.decode(task))
    if not count:
        raise RecordingError(f"{source.description}: there is no frame in it")
