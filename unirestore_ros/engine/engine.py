"""An open bundle: frame in, restored image and adapted features out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unirestore_ros.engine.backends import AUTO, Backend, open_backend
from unirestore_ros.engine.bundle import Bundle, find_bundle, read_bundle, retry_if_replaced
from unirestore_ros.engine.detail import DetailKeeper
from unirestore_ros.engine.working_size import FrameSizes, Size


class EngineOutput(NamedTuple):
    """One thing that an engine computes of a frame: its image or its features for a task."""

    what: Literal["image", "features"]
    task: str


class Engine:
    """Runs the parts of a bundle: the trunk once a frame, then what is wanted of each task.

    Frames may have any size that ``refusal`` has nothing against. The parts are pinned to one
    working size at a time: ``run_trunk`` pins them anew for a frame of another size, which takes
    from a third of a second to seconds. Who cannot wait asks ``is_ready_for`` and calls ``pin``
    while something else is shown.

    One thread at a time. Wrong calls raise ValueError, a failing backend InferenceError.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle = bundle
        self.backend, self.precision = backend.name, backend.precision
        self._parts: Backend | None = backend
        self._detail = DetailKeeper(bundle.manifest.sizes.sizes_for(bundle.manifest.working_size))
        self._features: dict[str, NDArray[np.float32]] = {}
        self._has_frame = False

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.bundle.manifest.tasks

    @property
    def sizes(self) -> FrameSizes:
        """Return the size of the frames that the engine is pinned to, and their working size."""
        return self._detail.sizes

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """Return (h, w, c) of the feature maps of the frames that the engine is pinned to."""
        return self.bundle.manifest.feature_shape(self.sizes)

    @property
    def feature_pitch(self) -> tuple[float, float]:
        """Return width and height of a feature map's pixel, in pixels of the frame."""
        return self.sizes.feature_pitch(self.bundle.manifest.stride)

    def refusal(self, width: int, height: int) -> str | None:
        """Say in one line why frames of this size are not taken; None where they are."""
        try:
            self.bundle.manifest.sizes.sizes_for((width, height))
        except ValueError as error:
            return str(error)
        return None

    def is_ready_for(self, width: int, height: int) -> bool:
        """Tell whether ``run_trunk`` takes a frame of this size without pinning the parts anew."""
        return _serves(self._open_parts(), self.bundle.manifest.sizes.sizes_for((width, height)))

    def pin(self, width: int, height: int) -> None:
        """Get ready for frames of this size. Where it fails, the engine stays as it was.

        ValueError where they are refused; BundleError where a part does not take their working
        size.
        """
        parts = self._open_parts()
        if self.sizes.frame == (width, height):
            return
        detail = DetailKeeper(self.bundle.manifest.sizes.sizes_for((width, height)))
        if not _serves(parts, detail.sizes):
            parts.pin(detail.sizes.padded, gain=detail.sizes.is_reduced)
        self._detail, self._features, self._has_frame = detail, {}, False

    def run(
        self, frame: NDArray[np.uint8], outputs: Iterable[EngineOutput]
    ) -> Iterator[tuple[EngineOutput, NDArray[Any]]]:
        """Compute outputs of a frame, (H, W, 3) uint8 RGB, and yield each as soon as it is ready.

        An image is (H, W, 3) uint8 RGB, features are (h, w, c) float32; valid until the next.
        """
        self.run_trunk(frame)
        for output in outputs:
            compute = self.decode if output.what == "image" else self.adapt
            yield output, compute(output.task)

    def run_trunk(self, frame: NDArray[np.uint8]) -> None:
        """Take in a frame, (H, W, 3) uint8 RGB. It is copied: the caller's buffer is free as soon
        as this returns."""
        parts = self._open_parts()
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"a frame is (H, W, 3) uint8, not {frame.shape} {frame.dtype}")
        self._has_frame = False
        self.pin(frame.shape[1], frame.shape[0])
        parts.run_trunk(self._detail.reduce(frame))
        self._has_frame = True

    def decode(self, task: str) -> NDArray[np.uint8]:
        """Restore the last frame for a task: (H, W, 3) uint8 RGB of the frame's size, read-only,
        valid until the next ``decode``."""
        return self._detail.fuse(*self._parts_for(task).decode(task))

    def adapt(self, task: str) -> NDArray[np.float32]:
        """Compute features of the last frame for a task: (h, w, c) float32, read-only, valid until
        the next ``adapt`` of that task."""
        features = self._parts_for(task).adapt(task)
        height, width, _ = self.feature_shape
        cropped = features[:height, :width]
        if not cropped.flags.c_contiguous:
            kept = self._features.setdefault(task, np.empty(cropped.shape, np.float32))
            np.copyto(kept, cropped)
            cropped = kept.view()
            cropped.flags.writeable = False
        return cropped

    def close(self) -> None:
        """Free the parts; results that were handed out stay valid.

        Closing twice is no error; any other call afterwards is one.
        """
        if self._parts is not None:
            self._parts.close()
        self._parts = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open_parts(self) -> Backend:
        if self._parts is None:
            raise ValueError(f"the engine {self.bundle.name} is closed")
        return self._parts

    def _parts_for(self, task: str) -> Backend:
        parts = self._open_parts()
        if task not in self.tasks:
            raise ValueError(f"no task {task!r} in {self.bundle.name}: {', '.join(self.tasks)}")
        if not self._has_frame:
            raise ValueError("run_trunk comes first")
        return parts


def _serves(parts: Backend, sizes: FrameSizes) -> bool:
    """Tell whether parts, as they are pinned, suit frames of these sizes: where a frame is not
    reduced, no gain is needed."""
    return sizes.padded == parts.size and (parts.gives_gain or not sizes.is_reduced)


def open_engine(
    bundle: str | Path,
    backend: str = AUTO,
    device_id: int = 0,
    threads: int = 0,
    frame_size: Size | None = None,
) -> Engine:
    """Verify a bundle, given its folder or name, and load it. ``threads`` 0: one a physical core.

    ``frame_size``: (width, height) of the frames to get ready for; None: the bundle's working size.
    BundleError says in one line which field or file is at fault, and the command that fixes it.
    """
    folder = find_bundle(bundle)

    def open_now() -> Engine:
        found = read_bundle(folder)
        rule = found.manifest.sizes
        sizes = rule.sizes_for(frame_size or found.manifest.working_size)
        parts = open_backend(found, backend, device_id, threads, sizes.padded, sizes.is_reduced)
        engine = Engine(found, parts)
        if frame_size is not None:
            engine.pin(*frame_size)
        return engine

    return retry_if_replaced(folder, open_now)
