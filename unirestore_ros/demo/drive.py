"""Make the bag that the demo plays: of an INPUT, or of the package's own synthetic drive."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from unirestore_ros.msgs.rates import mean_rate
from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.images import Degrade, Size, swap_red_and_blue
from unirestore_ros.recordings.make import NewCamera, NewFrame, make_bag, new_frames
from unirestore_ros.recordings.sources import Source
from unirestore_ros.signals import start_worker
from unirestore_ros.synthetic.drive import DemoFrame, render_demo_frames
from unirestore_ros.synthetic.programme import STRETCHES

# A namespace of its own keeps the demo apart from a vehicle's topics on the same network.
NAMESPACE = "/demo"
CAMERA = NewCamera(f"{NAMESPACE}/camera/image_raw", "demo_camera_optical_frame")
# Frames are read singly by their times, for which sqlite3 has an index.
STORAGE = "sqlite3"

_COPIES = 3  # of each frame on disk: camera, clean, restored
# Each process builds the town for itself: more of them would mostly do that.
_MOST_PROCESSES = 4
_FRAMES_A_TASK = 4

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class DriveBag:
    """A bag of one camera's frames, with the clean images beside them where they are known."""

    folder: Path
    times_ns: tuple[int, ...]
    """Time of each frame in the bag."""
    stretch_of: tuple[str, ...]
    """Name of the stretch that each frame belongs to."""
    has_clean: bool

    def __len__(self) -> int:
        return len(self.times_ns)

    @property
    def rate_hz(self) -> float | None:
        """Frames a second as recorded; None for a single frame."""
        return mean_rate(self.times_ns)

    def slowing(self, rate: float) -> float:
        """Return how many times slower than recorded it is played, so that at most ``rate`` frames
        come a second."""
        return max(1.0, (self.rate_hz or rate) / rate)

    def stretches(self) -> Iterator[tuple[str, range]]:
        """Yield each run of frames under one name, in the order played."""
        start = 0
        for name, run in itertools.groupby(self.stretch_of):
            stop = start + len(list(run))
            yield name, range(start, stop)
            start = stop


def record_input(
    source: Source,
    folder: Path,
    rate: float,
    limit: int,
    stretch: str,
    degrade: Degrade | None = None,
) -> DriveBag:
    """Read at most ``limit`` frames (0: all) of an INPUT into a bag, to be played at ``rate``."""
    length = source.length
    if limit:
        length = limit if length is None else min(length, limit)
    size = _first_size(source)
    check_space(folder.parent, length, size)
    frames = new_frames(source, size, degrade, limit=limit, default_rate=rate)
    times = make_bag(frames, folder, CAMERA, time.time_ns(), STORAGE)
    if not times:
        raise RecordingError(f"{source.description}: there is no frame in it")
    bag = DriveBag(folder, tuple(times), (stretch,) * len(times), degrade is not None)
    if source.length is not None and len(bag) == limit < source.length:
        _log.info("the first %d of %d frames are played (--frames)", len(bag), source.length)
    if bag.rate_hz is not None and (slowing := bag.slowing(rate)) > 1.01:
        _log.info(
            "%.3g frames/s are played at %.3g, %.3g times slower than recorded (--rate)",
            bag.rate_hz,
            bag.rate_hz / slowing,
            slowing,
        )
    return bag


def _first_size(source: Source) -> Size:
    """Size of the first frame, which all of a bag's frames must have."""
    for frame in source.frames():
        return frame.image.shape[1], frame.image.shape[0]
    raise RecordingError(f"{source.description}: there is no frame in it")


def record_drive(folder: Path, size: Size, count: int) -> DriveBag:
    """Render ``count`` frames of the package's own drive into a bag."""
    if count < len(STRETCHES):
        raise RecordingError(
            f"the synthetic drive has {len(STRETCHES)} stretches: --frames {count} is too few"
        )
    check_space(folder.parent, count, size)
    stretch_of: list[str] = []

    def frames() -> Iterator[NewFrame]:
        for frame in tqdm(_rendered(count, size), "rendering", count, unit="frame"):
            stretch_of.append(frame.stretch)
            yield NewFrame(
                round(frame.offset_s * 1e9),
                swap_red_and_blue(frame.degraded),
                swap_red_and_blue(frame.clean),
                size,
            )

    times = make_bag(frames(), folder, CAMERA, time.time_ns(), STORAGE)
    return DriveBag(folder, tuple(times), tuple(stretch_of), True)


def _rendered(count: int, size: Size) -> Iterator[DemoFrame]:
    """Render the frames by as many processes as cores; yields them in their order."""
    processes = min(_MOST_PROCESSES, len(os.sched_getaffinity(0)))
    # A forked process would inherit locks of OpenCV's threads.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=start_worker)
    try:
        tasks = [
            pool.submit(render_demo_frames, count, size, start, min(start + _FRAMES_A_TASK, count))
            for start in range(0, count, _FRAMES_A_TASK)
        ]
        for task in tasks:
            yield from task.result()
    except BrokenProcessPool as error:
        raise RecordingError(f"a process that renders the drive has died: {error}") from error
    finally:
        pool.shutdown(cancel_futures=True)


def check_space(folder: Path, frames: int | None, size: Size) -> None:
    """Raise RecordingError where the disk has no room for that many frames."""
    free = shutil.disk_usage(folder).free
    need = (frames or 0) * size[0] * size[1] * 3 * _COPIES
    if need > free:
        raise RecordingError(
            f"{frames} frames need {need / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are"
            " free: set TMPDIR to a larger disk, or play fewer (--frames)"
        )
