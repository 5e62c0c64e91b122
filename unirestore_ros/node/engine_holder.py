"""The engine that the node runs: how it is opened, and what the other threads know of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from unirestore_ros.engine import BundleError, Engine, open_engine
from unirestore_ros.engine.working_size import FrameSizes, SizeRule
from unirestore_ros.msgs.camera_frame import CameraFrame
from unirestore_ros.node.parameters import Parameters
from unirestore_ros.tasks import DRIVERS_TASK


@dataclasses.dataclass(frozen=True)
class EngineState:
    """What the node knows of its engine. A new one takes its place when a bundle is opened."""

    problem: str | None
    """Why there is no engine, in one line with the command that fixes it."""
    bundle: str = ""
    folder: str = ""
    backend: str = ""
    tasks: tuple[str, ...] = ()
    sizes: SizeRule | None = None
    """At which size it works on frames, and which sizes of frames it refuses."""
    stride: int = 1
    """Of its feature maps."""

    def why_not(self, frame: CameraFrame) -> str | None:
        """Why this frame cannot be restored, in one line; None where it can."""
        if frame.unsupported is not None or self.problem is not None:
            return frame.unsupported or self.problem
        try:
            self.sizes_of(frame)
        except ValueError as error:
            return str(error)
        return None

    def sizes_of(self, frame: CameraFrame) -> FrameSizes:
        """Return the frame's working size and geometry of features; ValueError where refused."""
        if self.sizes is None:
            raise ValueError("there is no engine")
        return self.sizes.sizes_for((frame.width, frame.height))

    def missing(self, tasks: Iterable[str]) -> str | None:
        """What to do about tasks that the bundle has no prompt for; None where it has all."""
        missing = [task for task in tasks if task not in self.tasks]
        if self.problem is not None or not missing:
            return None
        options = " ".join(f"--add-prompt {task}=FILE" for task in missing)
        return (
            f"the bundle {self.bundle} has no prompt for {', '.join(missing)}:"
            f" python -m unirestore_ros build {options} {self.folder}"
        )


_NO_ENGINE = EngineState(problem="no bundle has been read")


class EngineHolder:
    """Opens bundles, and holds the engine of the last that could be used.

    One thread at a time may open, run and close it; any may read ``state``.
    """

    def __init__(self) -> None:
        self.state = _NO_ENGINE
        self.engine: Engine | None = None

    def open(self, parameters: Parameters) -> None:
        """Open the bundle that the parameters name, and close the one before.

        Raises BundleError where it cannot be used; then the one before stays in use.
        """
        try:
            engine = _open_engine(parameters)
        except BundleError as error:
            if self.engine is None:
                self.state = EngineState(problem=str(error))
            raise
        before, self.engine, self.state = self.engine, engine, _state_of(engine)
        if before is not None:
            before.close()

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()
        self.engine, self.state = None, _NO_ENGINE


def _open_engine(parameters: Parameters) -> Engine:
    engine = open_engine(
        parameters.bundle, parameters.backend, parameters.device_id, parameters.threads
    )
    if DRIVERS_TASK not in engine.tasks:
        engine.close()
        raise BundleError(
            f"bundle {engine.bundle.folder}: it has no prompt for {DRIVERS_TASK}",
            f"python -m unirestore_ros build --add-prompt {DRIVERS_TASK}=FILE"
            f" {engine.bundle.folder}",
        )
    return engine


def _state_of(engine: Engine) -> EngineState:
    return EngineState(
        problem=None,
        bundle=engine.bundle.name,
        folder=str(engine.bundle.folder),
        backend=engine.backend,
        tasks=engine.tasks,
        sizes=engine.bundle.manifest.sizes,
        stride=engine.bundle.manifest.stride,
    )
