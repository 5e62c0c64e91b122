"""A bundle's reference: a frame, and samples of what the parts make of it in float32.

Compilers have shipped wrong numbers. What was compiled runs the frame when it is loaded, and is
refused when it strays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from unirestore_ros.engine.bundle import Bundle, BundleError
from unirestore_ros.engine.manifest import REFERENCE_FRAME, REFERENCE_SAMPLES

MAX_BYTES = 1 << 20
"""Most bytes of a reference: it is shipped with every bundle."""
_SAMPLES = {"image": 65536, "features": 16384}
_SAMPLES_OF_OTHERS = 2048
_STEP = 2654435761
"""A prime, near 2**32 divided by the golden ratio: steps of it meet every row and channel."""

Frame = NDArray[np.uint8]
Tensors = Mapping[str, NDArray[np.generic]]
"""By name: `image` (1, h, w, 3), `features` (1, h/s, w/s, c), and the trunk's outputs."""


class CompiledParts(Protocol):
    """A backend that lets its trunk's outputs be looked at."""

    name: str

    def run_trunk(self, frame: Frame) -> None: ...

    def decode(self, task: str) -> tuple[Frame, NDArray[np.float32] | None]: ...

    def adapt(self, task: str) -> NDArray[np.float32]: ...

    def trunk_output(self, name: str) -> NDArray[np.float32]: ...


def write_reference(bundle_folder: Path, frame: Frame, tensors: Tensors) -> None:
    """Write the reference of a bundle: the frame (h, w, 3) uint8 RGB of its padded working size,
    and samples of what the parts in float32 make of it with the prompt of the first task."""
    path = bundle_folder / REFERENCE_FRAME
    path.parent.mkdir()
    if not cv2.imwrite(str(path), frame[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        raise OSError(f"{path} cannot be written")
    samples = {name: sampled(name, tensor) for name, tensor in tensors.items()}
    save_file(samples, bundle_folder / REFERENCE_SAMPLES)
    (bundle_folder / REFERENCE_SAMPLES).chmod(0o644)
    size = sum(
        (bundle_folder / name).stat().st_size for name in (REFERENCE_FRAME, REFERENCE_SAMPLES)
    )
    if size > MAX_BYTES:
        raise ValueError(f"reference: {size} bytes are over {MAX_BYTES}: give smoother --frames")


def sampled(name: str, tensor: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return values of a tensor at fixed places, as float32 (n,)."""
    flat = tensor.reshape(-1)
    count = min(_SAMPLES.get(name, _SAMPLES_OF_OTHERS), flat.size)
    places = np.arange(count, dtype=np.uint64) * np.uint64(_STEP) % np.uint64(flat.size)
    return flat[places.astype(np.int64)].astype(np.float32)


def read_frame(bundle: Bundle) -> Frame:
    """Read the reference frame, (h, w, 3) uint8 RGB."""
    content = np.frombuffer(bundle.read(REFERENCE_FRAME), np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_COLOR)
    if image is None:
        raise BundleError(
            f"bundle {bundle.folder}: {REFERENCE_FRAME} is not an image", bundle.build_command()
        )
    return np.ascontiguousarray(image[..., ::-1])


def read_samples(bundle: Bundle) -> dict[str, NDArray[np.float32]]:
    """Read the reference's samples, float32 (n,), by the tensor's name."""
    try:
        samples = load(bundle.read(REFERENCE_SAMPLES))
    except SafetensorError as error:
        raise BundleError(
            f"bundle {bundle.folder}: {REFERENCE_SAMPLES}: {error}", bundle.build_command()
        ) from error
    return {name: values.astype(np.float32) for name, values in samples.items()}


def check_against_reference(bundle: Bundle, parts: CompiledParts, fix: str) -> None:
    """Run the reference frame; BundleError with ``fix`` where an output strays too far.

    The parts must be pinned to the frame's size.
    """
    expected = read_samples(bundle)
    task, least = bundle.manifest.tasks[0], bundle.manifest.reference_db
    parts.run_trunk(read_frame(bundle))
    for name in sorted(expected, key=_by_cost):
        if name == "image":
            found: NDArray[np.generic] = parts.decode(task)[0]
        elif name == "features":
            found = parts.adapt(task)
        else:
            found = parts.trunk_output(name)
        reached = decibels(sampled(name, found), expected[name])
        if not reached >= least:
            raise BundleError(
                f"bundle {bundle.folder}: backend {parts.name} computes wrong numbers: {name} of "
                f"the reference frame is {reached:.1f} dB from float32, must be {least:g} or more",
                fix,
            )


def decibels(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the PSNR over the range of the expected values; NaN where a value is not finite."""
    if found.shape != expected.shape:
        return math.nan
    error = float(np.mean((found.astype(np.float64) - expected) ** 2))
    span = max(float(np.ptp(expected)), 1e-6)
    return math.inf if error == 0 else 10 * math.log10(span**2 / error)


def _by_cost(name: str) -> int:
    """Order outputs as they are computed, so that the first that strays is named."""
    return {"image": 2, "features": 1}.get(name, 0)
