"""Draw the demo's overlay video and its figure of before and after."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np

from unirestore_ros.demo.record import RESTORED_MODE, Frames, Record, ShownFrame
from unirestore_ros.demo.report import StretchReport, mean_psnr
from unirestore_ros.display.lettering import Colour, baseline, draw_text, text_width
from unirestore_ros.msgs.rates import mean_rate
from unirestore_ros.recordings.figure import CELL_WIDTH, Row, draw_figure

GREEN: Colour = (88, 160, 42)
AMBER: Colour = (20, 150, 240)
WHITE: Colour = (245, 245, 245)
GREY: Colour = (170, 170, 170)
DARK: Colour = (30, 26, 24)

_LEAST_WIDTH = 960
_WIDEST_CELL = 960
_STRIP = 56
_TEXT = 24
_LABEL = 20
_MARGIN = 16

_FPS_WINDOW_NS = 2_000_000_000
_CAMERA, _RESTORED, _CLEAN = "camera", "restored", "clean"
_PERCENTILES = (1.0, 99.0)  # what becomes black and full colour; beyond it is clipped


def overlay_images(frames: Frames, record: Record) -> Iterator[np.ndarray]:
    """Draw the overlay for each image that the node published, in the order received: (H, W, 3)
    uint8 BGR."""
    received = [shown.received_ns for shown in record.shown]
    for number, shown in enumerate(record.shown):
        first = bisect.bisect_left(received, shown.received_ns - _FPS_WINDOW_NS)
        glance = Glance(
            mode=shown.mode,
            stretch=frames.bag.stretch_of[shown.number].replace("_", " "),
            fps=mean_rate(received[first : number + 1]),
            age_ms=shown.age_ms,
        )
        yield draw_overlay(frames.camera(shown.number), frames.shown(shown), glance)


def before_after(
    frames: Frames, record: Record, stretches: Sequence[StretchReport], subtitle: str
) -> np.ndarray:
    """Draw the figure, (H, W, 3) uint8 BGR: a row for each stretch that has restored frames."""
    chosen = {
        number: frame
        for number, (_, indices) in enumerate(frames.bag.stretches())
        if (frame := _frame_to_show(record, indices)) is not None
    }
    features = _feature_images(frames, record, [frame.number for frame in chosen.values()])
    rows = []
    for number, frame in chosen.items():
        images = {_CAMERA: frames.camera(frame.number), _RESTORED: frames.shown(frame)}
        if frames.bag.has_clean:
            images[_CLEAN] = frames.clean(frame.number)
        size = images[_CAMERA].shape[1], images[_CAMERA].shape[0]
        for name, by_frame in features.items():
            if frame.number in by_frame:
                grown = cv2.resize(by_frame[frame.number], size, interpolation=cv2.INTER_NEAREST)
                images[name] = grown
        rows.append(
            Row(stretches[number].name.replace("_", " "), _remarks(stretches[number]), images)
        )
    columns = list(dict.fromkeys(name for row in rows for name in row.images))
    # A camera's image in its own pixels, unless that is very small or large.
    widths = [image.shape[1] for row in rows for image in row.images.values()]
    cell_width = min(max(CELL_WIDTH, *widths), _WIDEST_CELL)
    return draw_figure("Before and after", subtitle, columns, rows, cell_width)


def _remarks(stretch: StretchReport) -> dict[str, str]:
    """Give mean PSNR for the column it belongs to."""
    mean = mean_psnr(stretch.psnr)
    values = {_CAMERA: mean["degraded"], _RESTORED: mean["restored"]}
    return {name: f"{value:.1f} dB" for name, value in values.items() if value is not None}


def _frame_to_show(record: Record, indices: range) -> ShownFrame | None:
    """Choose the frame nearest the middle whose features were all kept; else the nearest."""
    kept = [{each.number for each in maps if each.is_kept} for maps in record.features.values()]
    whole = set.intersection(*kept) if kept else set()
    middle = indices[len(indices) // 2]
    return min(
        (shown for shown in record.restored if shown.number in indices),
        key=lambda shown: (shown.number not in whole, abs(shown.number - middle)),
        default=None,
    )


def _feature_images(
    frames: Frames, record: Record, indices: Sequence[int]
) -> Mapping[str, Mapping[int, np.ndarray]]:
    """Draw the kept feature maps of those frames: by column, then by frame."""
    columns = {}
    for task, maps in record.features.items():
        kept = {each.number: each for each in maps if each.is_kept and each.number in indices}
        images = principal_images([frames.features(task, each) for each in kept.values()])
        columns[f"{task} features"] = dict(zip(kept, images, strict=True))
    return columns


@dataclasses.dataclass(frozen=True)
class Glance:
    """What the strip says: mode, stretch of the drive, frames a second, age in milliseconds."""

    mode: str
    stretch: str
    fps: float | None
    age_ms: float | None


def draw_overlay(camera: np.ndarray, shown: np.ndarray, glance: Glance) -> np.ndarray:
    """Draw the split view of two (H, W, 3) uint8 BGR images of one frame, with a strip below."""
    factor = max(1, -(-_LEAST_WIDTH // camera.shape[1]))
    split = _split_view(camera, shown, factor)
    _label(split, "camera", left=True)
    _label(split, "restored" if glance.mode == RESTORED_MODE else "camera, relayed", left=False)
    return np.concatenate((split, _strip(split.shape[1], glance)))


def _split_view(camera: np.ndarray, shown: np.ndarray, factor: int) -> np.ndarray:
    middle = camera.shape[1] // 2
    split = np.concatenate((camera[:, :middle], shown[:, middle:]), axis=1)
    # MPEG-4 wants even sides.
    size = (split.shape[1] * factor // 2 * 2, split.shape[0] * factor // 2 * 2)
    split = cv2.resize(split, size, interpolation=cv2.INTER_CUBIC)
    x = size[0] * middle // camera.shape[1]
    cv2.line(split, (x, 0), (x, size[1]), DARK, 5)
    cv2.line(split, (x, 0), (x, size[1]), WHITE, 2)
    return split


def _label(image: np.ndarray, words: str, left: bool) -> None:
    """Write a name in an upper corner, on a darkened patch so that it is read on snow too."""
    width = text_width(words, _LABEL) + 2 * _MARGIN
    x = 0 if left else image.shape[1] - width
    patch = image[: _LABEL + _MARGIN, x : x + width]
    patch[:] = cv2.addWeighted(patch, 0.35, np.full_like(patch, DARK), 0.65, 0)
    foot = baseline(0, patch.shape[0], _LABEL)
    draw_text(image, words, (x + _MARGIN, foot), _LABEL, WHITE)


def _strip(width: int, glance: Glance) -> np.ndarray:
    strip = np.full((_STRIP, width, 3), DARK, np.uint8)
    foot = baseline(0, _STRIP, _TEXT)
    mode = glance.mode.upper()
    pill = text_width(mode, _TEXT, bold=True) + 2 * _MARGIN
    strip[:, :pill] = GREEN if glance.mode == RESTORED_MODE else AMBER
    draw_text(strip, mode, (_MARGIN, foot), _TEXT, WHITE, bold=True)
    draw_text(strip, glance.stretch, (pill + _MARGIN, foot), _TEXT, WHITE)
    figures = f"{_figure(glance.fps, '.1f')} fps    age {_figure(glance.age_ms, '.0f')} ms"
    x = width - text_width(figures, _TEXT) - _MARGIN
    draw_text(strip, figures, (x, foot), _TEXT, GREY)
    return strip


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def principal_images(maps: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Colour (h, w, c) float32 maps of one task alike: (h, w, 3) uint8 BGR images.

    The components are those of all the maps together, so that a colour means the same in each.
    A map with fewer than three channels leaves the other colours black.
    """
    if not maps:
        return []
    channels = maps[0].shape[2]
    rows = np.concatenate([m.reshape(-1, channels) for m in maps]).astype(np.float64)
    mean = rows.mean(axis=0)
    covariance = np.atleast_2d(np.cov(rows - mean, rowvar=False))
    _, vectors = np.linalg.eigh(covariance)
    axes = _with_fixed_signs(vectors[:, ::-1][:, :3])
    projected = (rows - mean) @ axes
    low, high = np.percentile(projected, _PERCENTILES, axis=0)
    levels = (projected - low) / np.maximum(high - low, 1e-12)
    colours = np.zeros((len(rows), 3), np.uint8)
    colours[:, : axes.shape[1]] = np.round(np.clip(levels, 0.0, 1.0) * 255)
    ends = np.cumsum([m.shape[0] * m.shape[1] for m in maps])
    pieces = np.split(colours[:, ::-1], ends[:-1])
    return [
        np.ascontiguousarray(piece.reshape(*m.shape[:2], 3))
        for piece, m in zip(pieces, maps, strict=True)
    ]


def _with_fixed_signs(axes: np.ndarray) -> np.ndarray:
    """Make the largest entry of each eigenvector positive: its sign is arbitrary."""
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return axes * np.where(largest < 0, -1.0, 1.0)
