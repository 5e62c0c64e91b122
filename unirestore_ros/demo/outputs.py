"""The pictures of a demonstration: the overlay video and the figure of before and after."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np

from unirestore_ros.demo.feature_view import principal_pictures
from unirestore_ros.demo.overlay import Glance, draw_overlay
from unirestore_ros.demo.quality import StretchReport, mean_quality
from unirestore_ros.demo.record import Record, Shown
from unirestore_ros.demo.spool import Spool
from unirestore_ros.msgs.rates import mean_rate
from unirestore_ros.recordings.figure import Row, draw_figure

_FPS_WINDOW_NS = 2_000_000_000
_CAMERA, _RESTORED, _CLEAN = "camera", "restored", "clean"


def overlay_pictures(spool: Spool, record: Record) -> Iterator[np.ndarray]:
    """The driver's overlay for each image that the node published, in the order received."""
    received = [shown.received_ns for shown in record.shown]
    for number, shown in enumerate(record.shown):
        first = bisect.bisect_left(received, shown.received_ns - _FPS_WINDOW_NS)
        glance = Glance(
            mode=shown.mode,
            stretch=spool.entries[shown.index].stretch.replace("_", " "),
            fps=mean_rate(received[first : number + 1]),
            age_ms=shown.age_ms,
        )
        yield draw_overlay(spool.camera(shown.index), shown.picture(), glance)


def before_after(
    spool: Spool, record: Record, stretches: Sequence[StretchReport], subtitle: str
) -> np.ndarray:
    """The figure: a row for each stretch of which something was restored."""
    chosen = {
        number: frame
        for number, (_, indices) in enumerate(spool.stretches())
        if (frame := _frame_to_show(record, indices)) is not None
    }
    features = _feature_pictures(record, [frame.index for frame in chosen.values()])
    rows = []
    for number, frame in chosen.items():
        pictures = {_CAMERA: spool.camera(frame.index), _RESTORED: frame.picture()}
        if spool.entries[frame.index].has_clean:
            pictures[_CLEAN] = spool.clean(frame.index)
        size = pictures[_CAMERA].shape[1], pictures[_CAMERA].shape[0]
        for name, by_frame in features.items():
            if frame.index in by_frame:
                grown = cv2.resize(by_frame[frame.index], size, interpolation=cv2.INTER_NEAREST)
                pictures[name] = grown
        rows.append(
            Row(stretches[number].name.replace("_", " "), _remarks(stretches[number]), pictures)
        )
    columns = list(dict.fromkeys(name for row in rows for name in row.pictures))
    return draw_figure("Before and after", subtitle, columns, rows)


def _remarks(stretch: StretchReport) -> dict[str, str]:
    """Mean PSNR above the column it belongs to."""
    quality = mean_quality(stretch.psnr)
    values = {_CAMERA: quality.degraded, _RESTORED: quality.restored}
    return {name: f"{value:.1f} dB" for name, value in values.items() if value is not None}


def _frame_to_show(record: Record, indices: range) -> Shown | None:
    """The frame nearest the middle whose features were all kept; without one, the nearest."""
    kept = [set(topic.kept) for topic in record.features.values()]
    whole = set.intersection(*kept) if kept else set()
    middle = indices[len(indices) // 2]
    return min(
        (shown for shown in record.restored if shown.index in indices),
        key=lambda shown: (shown.index not in whole, abs(shown.index - middle)),
        default=None,
    )


def _feature_pictures(
    record: Record, frames: Sequence[int]
) -> Mapping[str, Mapping[int, np.ndarray]]:
    """By column, then by frame."""
    columns = {}
    for task, topic in record.features.items():
        present = [index for index in frames if index in topic.kept]
        pictures = principal_pictures([np.load(topic.kept[index]) for index in present])
        columns[f"{task} features"] = dict(zip(present, pictures, strict=True))
    return columns
