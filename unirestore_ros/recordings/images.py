"""Images scaled, degraded, and written to image files and videos."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np

from unirestore_ros.recordings import RecordingError
from unirestore_ros.synthetic import corruptions, driving

Size = tuple[int, int]  # (width, height) in pixels
Degrade = Callable[[np.ndarray, int], np.ndarray]
"""(frame, its number) -> degraded frame; both (H, W, 3) uint8 BGR."""

_BENCHMARK = "imagenet_c/"
_SEED = "demo"


def scaled_size(source: Size, target: Size) -> Size:
    """Scale ``source``, aspect kept, until it just covers ``target``."""
    factor = max(target[0] / source[0], target[1] / source[1])
    return max(target[0], round(source[0] * factor)), max(target[1], round(source[1] * factor))


def fit_image(image: np.ndarray, target: Size) -> np.ndarray:
    """Scale (H, W, 3) uint8 to cover ``target`` and crop it to that at the centre."""
    source = image.shape[1], image.shape[0]
    if source == target:
        return image
    scaled = scaled_size(source, target)
    shrinking = scaled[0] < source[0]
    resized = cv2.resize(
        image, scaled, interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
    )
    left, top = (scaled[0] - target[0]) // 2, (scaled[1] - target[1]) // 2
    return np.ascontiguousarray(resized[top : top + target[1], left : left + target[0]])


def describe_fit(source: Size, target: Size) -> str:
    """Say what ``fit_image`` does to images of a size."""
    name = "the size asked for"
    if source == target:
        return f"frames are {target[0]}x{target[1]}, {name}: nothing is scaled"
    scaled = scaled_size(source, target)
    words = f"frames are scaled from {source[0]}x{source[1]} to {scaled[0]}x{scaled[1]}"
    if scaled == target:
        return f"{words}, {name}"
    return f"{words} and cropped at the centre to {name} {target[0]}x{target[1]}"


def swap_red_and_blue(image: np.ndarray) -> np.ndarray:
    """Turn BGR into RGB or back, (H, W, 3) uint8, contiguous."""
    return np.ascontiguousarray(image[:, :, ::-1])


def degradation(name: str, severity: int) -> Degrade:
    """Look a degradation up by its name; RecordingError lists the names where there is none.

    A name that both the driving weather and ImageNet-C have means the weather;
    ``imagenet_c/NAME`` means the benchmark's. The same frame number has the same pixels each time.
    """
    degrade = _degradation_of_rgb(name, severity)
    return lambda frame, number: swap_red_and_blue(degrade(swap_red_and_blue(frame), number))


def _degradation_of_rgb(name: str, severity: int) -> Degrade:
    bare = name.removeprefix(_BENCHMARK)
    if name in driving.DEGRADATIONS:
        return lambda frame, number: driving.degrade(
            frame, name, severity, driving.frame_rng(_SEED, name, number)
        )
    if name in driving.MIXTURES:
        return lambda frame, number: driving.mix_frame(frame, name, severity, _SEED, number)
    if bare in corruptions.COMMON + corruptions.VALIDATION:
        _require_benchmark(name)
        return lambda frame, number: corruptions.corrupt(frame, bare, severity, f"{_SEED} {number}")
    raise RecordingError(_unknown_degradation(name))


def _require_benchmark(name: str) -> None:
    if importlib.util.find_spec("imagecorruptions") is None:
        raise RecordingError(
            f"DEGRADE={name} is a corruption of ImageNet-C and needs imagecorruptions-imaug:"
            " `make test` installs it; without it there are "
            + ", ".join([*driving.DEGRADATIONS, *driving.MIXTURES])
        )


def _unknown_degradation(name: str) -> str:
    driven = (*driving.DEGRADATIONS, *driving.MIXTURES)
    names = [*driven, *corruptions.COMMON, *corruptions.VALIDATION]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"there is no degradation {name!r}.{hint} There are: {', '.join(dict.fromkeys(names))}"


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 BGR in the format of the path's suffix."""
    if not cv2.imwrite(str(path), image):
        raise RecordingError(f"{path} could not be written")


def write_video(path: Path, images: Iterable[np.ndarray], fps: float) -> int:
    """Write an MP4 (MPEG-4 part 2) of (H, W, 3) uint8 BGR images, count its frames again, and
    return their number; RecordingError where OpenCV makes none."""
    writer: cv2.VideoWriter | None = None
    written = 0
    try:
        for image in images:
            if writer is None:
                writer = _open_writer(path, (image.shape[1], image.shape[0]), fps)
            writer.write(image)
            written += 1
    finally:
        if writer is not None:
            writer.release()
    # OpenCV reports no error while it writes: a full disk shows only in what can be read back.
    if (readable := _frames_in(path)) != written:
        raise RecordingError(
            f"{path.name}: {written} frames were written, {readable} can be read back"
        )
    return written


def _open_writer(path: Path, size: Size, fps: float) -> cv2.VideoWriter:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    if not writer.isOpened():
        raise RecordingError(
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
