"""Pictures of one frame from several topics of a bag: their PSNR, a sheet of before and after."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from rosbags.rosbag2 import Reader

from unirestore_ros.evaluate.metrics import psnr
from unirestore_ros.msgs.camera_frame import read_frame
from unirestore_ros.msgs.cdr import MalformedMessage
from unirestore_ros.recordings import scaling
from unirestore_ros.recordings.figure import Row, draw_figure
from unirestore_ros.recordings.fitting import bgr_of
from unirestore_ros.recordings.header import read_header
from unirestore_ros.recordings.storage import COMPRESSED_IMAGE

# A restored picture is recorded some frames after the camera's.
_WAITING = 128


class Trio(NamedTuple):
    """Topics that show the same frames."""

    camera: str
    restored: str
    clean: str | None


class Pair(NamedTuple):
    """One frame: its stamp, its pictures, (H, W, 3) uint8 BGR, and their PSNR to the clean one."""

    stamp_ns: int
    pictures: dict[str, np.ndarray]
    psnr: dict[str, float]


class Measured(NamedTuple):
    """Mean PSNR over all frames, None without clean ones; and the frames for the sheet."""

    psnr: dict[str, Any] | None
    shown: list[Pair]


def measure_pairs(reader: Reader, topics: Trio, rows: int) -> Measured:
    """Read the frames that are on all of the topics."""
    total = max(1, *(c.msgcount for c in reader.connections if c.topic == topics.restored), rows)
    every = max(1, total // max(rows, 1))
    sums = {"camera": 0.0, "restored": 0.0}
    shown: list[Pair] = []
    count = 0
    for number, frame in enumerate(_joined(reader, topics)):
        is_shown = number % every == every // 2 and len(shown) < rows
        if topics.clean is None and not is_shown:
            continue
        pair = _pair(*frame)
        if topics.clean is not None:
            count += 1
            for name in sums:
                sums[name] += pair.psnr[name]
        if is_shown:
            shown.append(pair)
    if count == 0:
        return Measured(None, shown)
    means = {name: round(value / count, 3) for name, value in sums.items()}
    return Measured({**means, "frames": count}, shown)


def sheet(title: str, pairs: Sequence[Pair], rows: int) -> np.ndarray:
    """The figure, (H, W, 3) uint8 BGR."""
    first = min(pair.stamp_ns for pair in pairs)
    drawn = [
        Row(
            f"{(pair.stamp_ns - first) * 1e-9:.2f} s",
            {name: f"{value:.1f} dB" for name, value in pair.psnr.items()},
            pair.pictures,
        )
        for pair in pairs
    ]
    columns = list(dict.fromkeys(name for pair in pairs for name in pair.pictures))
    subtitle = "PSNR is to the clean picture" if "clean" in columns else "by stamp, in seconds"
    return draw_figure(title, subtitle, columns, drawn)


def _joined(reader: Reader, topics: Trio) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Stamp and pictures of frames that have come on every topic."""
    names = {topics.camera: "camera", topics.restored: "restored"}
    if topics.clean is not None:
        names[topics.clean] = "clean"
    wanted = [connection for connection in reader.connections if connection.topic in names]
    waiting: OrderedDict[int, dict[str, tuple[bytes, bool]]] = OrderedDict()
    for connection, _, data in reader.messages(wanted):
        header = read_header(data)
        if header is None:
            continue
        pieces = waiting.setdefault(header.stamp_ns, {})
        pieces[names[connection.topic]] = data, connection.msgtype == COMPRESSED_IMAGE
        if len(pieces) == len(names):
            waiting.pop(header.stamp_ns)
            pictures = _decoded(pieces)
            if pictures is not None:
                yield header.stamp_ns, pictures
        elif len(waiting) > _WAITING:
            waiting.popitem(last=False)


def _decoded(pieces: dict[str, tuple[bytes, bool]]) -> dict[str, np.ndarray] | None:
    """None where one of them cannot be read."""
    pictures: dict[str, np.ndarray] = {}
    for name in ("camera", "restored", "clean"):
        if name in pieces:
            data, compressed = pieces[name]
            try:
                frame = read_frame(data, compressed, 0.0, 0)
                if frame.unsupported is not None:
                    return None
                pictures[name] = np.array(bgr_of(frame))
            except MalformedMessage:
                return None
    return pictures


def _pair(stamp_ns: int, pictures: dict[str, np.ndarray]) -> Pair:
    """All at the size of the restored picture, which may have been fitted to the bundle."""
    height, width = pictures["restored"].shape[:2]
    same = {name: scaling.fit(picture, (width, height)) for name, picture in pictures.items()}
    figures = {}
    if "clean" in same:
        figures = {name: psnr(same[name], same["clean"]) for name in ("camera", "restored")}
    return Pair(stamp_ns, same, figures)
