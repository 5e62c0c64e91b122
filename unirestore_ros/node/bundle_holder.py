"""The open bundle, or why there is none, and what it can take."""

from __future__ import annotations

from unirestore_ros.engine import BundleError, Engine, open_engine
from unirestore_ros.msgs.camera_frame import CameraFrame
from unirestore_ros.node.parameters import Parameters

DRIVERS_TASK = "perception"


class BundleHolder:
    """Keeps the engine. One thread at a time may open, close or run it; any may ask the rest."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.problem: str | None = "no bundle has been read"
        """Why there is no engine, in one line with the command that mends it."""

    def open(self, parameters: Parameters) -> None:
        """Take the bundle that the parameters name; BundleError, and no change but to ``problem``,
        where it cannot be used. An engine that was open before is closed when the new one is."""
        try:
            engine = _open(parameters)
        except BundleError as error:
            if self.engine is None:
                self.problem = str(error)
            raise
        before, self.engine, self.problem = self.engine, engine, None
        if before is not None:
            before.close()

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()
        self.engine, self.problem = None, "no bundle has been read"

    def unfit(self, frame: CameraFrame) -> str | None:
        """Why this frame cannot be restored, in one line; None where it can."""
        engine = self.engine
        if engine is None or frame.unsupported is not None:
            return frame.unsupported or self.problem
        if (frame.width, frame.height) == engine.input_size:
            return None
        size = f"{frame.width}x{frame.height}"
        taken = "{}x{}".format(*engine.input_size)
        return (
            f"frames are {size}, the bundle {engine.bundle.name} takes {taken}:"
            f" {engine.bundle.build_command('--size', size)}"
        )

    def missing(self, tasks: tuple[str, ...]) -> str | None:
        """What to do about tasks that the bundle has no prompt for; None where it has all."""
        engine = self.engine
        missing = [task for task in tasks if engine is not None and task not in engine.tasks]
        if engine is None or not missing:
            return None
        options = " ".join(f"--add-prompt {task}=FILE" for task in missing)
        return (
            f"the bundle {engine.bundle.name} has no prompt for {', '.join(missing)}:"
            f" python -m unirestore_ros build {options} {engine.bundle.folder}"
        )


def _open(parameters: Parameters) -> Engine:
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
