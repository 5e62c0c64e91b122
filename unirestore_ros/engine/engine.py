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


class EngineOutput(NamedTuple):
    """One thing that an engine computes of a frame: its image or its features for a task."""

    what: Literal["image", "features"]
    task: str


class Engine:
    """Runs the parts of a bundle: the trunk once a frame, then what is wanted of each task.

    One thread at a time. Wrong calls raise ValueError, a failing backend InferenceError.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle = bundle
        self.backend, self.precision = backend.name, backend.precision
        self._parts: Backend | None = backend
        self._has_frame = False

    @property
    def input_size(self) -> tuple[int, int]:
        """(width, height) of the frames that the bundle takes."""
        return self.bundle.manifest.input_size

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.bundle.manifest.tasks

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(h, w, c) of every feature map."""
        return self.bundle.manifest.feature_shape

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
        """Take in a frame, (H, W, 3) uint8 RGB, C-contiguous. It is copied: the caller's buffer is
        free as soon as this returns."""
        parts = self._open_parts()
        self._check_frame(frame)
        self._has_frame = False
        parts.run_trunk(frame)
        self._has_frame = True

    def decode(self, task: str) -> NDArray[np.uint8]:
        """The last frame restored for a task: (H, W, 3) uint8 RGB, read-only, valid until the next
        ``decode``."""
        return self._parts_for(task).decode(task)

    def adapt(self, task: str) -> NDArray[np.float32]:
        """Features of the last frame for a task: (h, w, c), read-only, valid until the next
        ``adapt`` of that task."""
        return self._parts_for(task).adapt(task)

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

    def _check_frame(self, frame: NDArray[np.uint8]) -> None:
        width, height = self.input_size
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"a frame is (H, W, 3) uint8, not {frame.shape} {frame.dtype}")
        if frame.shape != (height, width, 3):
            size = f"{frame.shape[1]}x{frame.shape[0]}"
            raise ValueError(
                f"the bundle {self.bundle.name} takes {width}x{height}, the frame is {size}: "
                f"{self.bundle.build_command('--size', size)}"
            )
        if not frame.flags.c_contiguous:
            raise ValueError("the frame must be C-contiguous")


def open_engine(
    bundle: str | Path, backend: str = AUTO, device_id: int = 0, threads: int = 0
) -> Engine:
    """Verify a bundle, given its folder or name, and load it. ``threads`` 0: one a physical core.

    BundleError says in one line which field or file is at fault, and the command that fixes it.
    """
    folder = find_bundle(bundle)

    def open_now() -> Engine:
        found = read_bundle(folder)
        return Engine(found, open_backend(found, backend, device_id, threads))

    return retry_if_replaced(folder, open_now)
