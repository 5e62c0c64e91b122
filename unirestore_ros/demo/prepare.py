"""Making the spool of an INPUT: read, scaled and degraded as asked."""

from __future__ import annotations

import itertools
import logging
import shutil
from pathlib import Path

import numpy as np
from tqdm import tqdm

from unirestore_ros.demo.errors import DemoError
from unirestore_ros.demo.pacing import paced
from unirestore_ros.demo.spool import Entry, Spool, finish, save_frame
from unirestore_ros.msgs.rates import mean_rate
from unirestore_ros.recordings import scaling
from unirestore_ros.recordings.degradation import Degrade
from unirestore_ros.recordings.scaling import Size
from unirestore_ros.recordings.sources import Source

_COPIES = 3  # of each frame on disk: camera, clean, restored

_log = logging.getLogger(__name__)


def spool_input(
    source: Source,
    folder: Path,
    size: Size,
    rate: float,
    limit: int,
    stretch: str,
    degrade: Degrade | None = None,
) -> Spool:
    """Read at most ``limit`` frames (0: all) into a spool, to be played at ``rate`` a second."""
    length = _frames_to_read(source, limit)
    check_space(folder.parent, length, size)
    offsets: list[int | None] = []
    wanted = itertools.islice(source.frames(), limit or None)
    for frame in tqdm(wanted, "reading", length, unit="frame"):
        if not offsets:
            seen = frame.image.shape[1], frame.image.shape[0]
            _log.info("%s", scaling.description(seen, size))
        image = scaling.fit(frame.image, size)
        if degrade is None:
            save_frame(folder, len(offsets), image)
        else:
            save_frame(folder, len(offsets), _degraded(image, degrade, len(offsets)), image)
        offsets.append(frame.offset_ns)
    if not offsets:
        raise DemoError(f"{source.description}: there is no frame in it")
    due = paced(offsets, rate)
    _tell_pace(source, offsets, due, length)
    return finish(folder, [Entry(at, stretch, degrade is not None) for at in due])


def check_space(folder: Path, frames: int | None, size: Size) -> None:
    """DemoError where the disk has no room for that many frames."""
    free = shutil.disk_usage(folder).free
    need = (frames or 0) * size[0] * size[1] * 3 * _COPIES
    if need > free:
        raise DemoError(
            f"{frames} frames need {need / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are"
            " free: set TMPDIR to a larger disk, or play fewer (--frames)"
        )


def _frames_to_read(source: Source, limit: int) -> int | None:
    if source.length is None:
        return limit or None
    return min(source.length, limit) if limit else source.length


def _degraded(image: np.ndarray, degrade: Degrade, number: int) -> np.ndarray:
    rgb = np.ascontiguousarray(image[:, :, ::-1])
    return np.ascontiguousarray(degrade(rgb, number)[:, :, ::-1])


def _tell_pace(
    source: Source, offsets: list[int | None], due: list[int], length: int | None
) -> None:
    if source.length is not None and len(due) < source.length and len(due) == length:
        _log.info("the first %d of %d frames are played (--frames)", len(due), source.length)
    known = [offset for offset in offsets if offset is not None]
    recorded, played = mean_rate(known), mean_rate(due)
    if recorded is not None and played is not None and recorded > 1.01 * played:
        _log.info(
            "%.3g frames/s are played at %.3g, %.3g times slower than recorded (--rate)",
            recorded,
            played,
            recorded / played,
        )
