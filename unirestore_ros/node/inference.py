"""The engine as the pipeline sees it: what it can do, outputs of frames, a new one after a fault.

The engine runs in a process of its own (`engine_process.py`). A fault of that process never raises
anything but EngineLost here, and leaves a state that says why frames are not restored and when the
next process is started.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from numpy.typing import NDArray

from unirestore_ros.engine import BundleError, EngineOutput, InferenceError
from unirestore_ros.engine.channel import Message
from unirestore_ros.engine.working_size import FrameSizes, SizeRule
from unirestore_ros.msgs.camera_frame import CameraFrame
from unirestore_ros.msgs.encodings import Pixels
from unirestore_ros.node.engine_process import EngineLost, EngineProcess
from unirestore_ros.node.parameters import Parameters
from unirestore_ros.tasks import DRIVERS_TASK

_FIRST_DELAY_S, _LONGEST_DELAY_S = 1.0, 60.0
# After this long without a fault, the next restart follows after the first delay again.
_SETTLED_S = 60.0
# One frame may fail for what it shows; so many in a row are a fault of the engine, such as an error
# of CUDA that stays until the process ends.
_FAILURES = 3


@dataclasses.dataclass(frozen=True)
class EngineState:
    """What the node knows of its engine. A new one takes its place when the engine changes."""

    problem: str | None
    """Why no frame can be restored now, in one line with what fixes it."""
    is_fault: bool = True
    """Whether the problem is an error, rather than an engine that is getting ready."""
    bundle: str = ""
    folder: str = ""
    backend: str = ""
    tasks: tuple[str, ...] = ()
    rule: SizeRule | None = None
    """At which size it works on frames, and which sizes of frames it refuses."""
    stride: int = 1
    """Input pixels of the working size to a pixel of its feature maps."""
    pinned: tuple[int, int] = (0, 0)
    """(width, height) of the padded working size that its parts are ready for."""

    def why_not(self, frame: CameraFrame) -> str | None:
        """Say in one line why this frame cannot be restored; None where it can."""
        if frame.unsupported is not None or self.problem is not None:
            return frame.unsupported or self.problem
        try:
            self.sizes_of(frame)
        except ValueError as error:
            return str(error)
        return None

    def sizes_of(self, frame: CameraFrame) -> FrameSizes:
        """Return the frame's working size and geometry of features; ValueError where refused."""
        if self.rule is None:
            raise ValueError("there is no engine")
        return self.rule.sizes_for((frame.width, frame.height))

    def is_ready_for(self, frame: CameraFrame) -> bool:
        """Tell whether the frame can be restored without pinning the engine to another size."""
        return self.sizes_of(frame).padded == self.pinned

    def missing(self, tasks: Iterable[str]) -> str | None:
        """Say what to do about tasks that the bundle has no prompt for; None where it has all."""
        missing = [task for task in tasks if task not in self.tasks]
        if self.problem is not None or not missing:
            return None
        options = " ".join(f"--add-prompt {task}=FILE" for task in missing)
        return (
            f"the bundle {self.bundle} has no prompt for {', '.join(missing)}:"
            f" python -m unirestore_ros build {options} {self.folder}"
        )


_NO_ENGINE = EngineState(problem="no bundle has been read")


class Inference:
    """Holds the engine process and replaces one that fails. One thread calls open, get_ready,
    decode, run and close; any thread may read ``state`` and call the rest."""

    def __init__(self, on_lost: Callable[[str], None] = lambda problem: None) -> None:
        """``on_lost`` is called once for each process that is lost while it is in use, with the
        problem, before that process is cleared away: in the thread that noticed it."""
        self._on_lost = on_lost
        self.state = _NO_ENGINE
        self._lock = threading.Lock()
        self._process: EngineProcess | None = None
        self._opening: EngineProcess | None = None
        self._is_warm = False
        """Whether a frame has been restored since the engine was opened or pinned."""
        self._failures = 0
        """Frames in a row that failed."""
        self._has_failed = False
        """Whether a process has been lost since one was last opened."""
        self._delay = RestartDelay()
        self._restart_at: float | None = None
        self.is_interrupted = False
        """Whether the node ends, so that what fails now is no fault."""

    @property
    def pid(self) -> int | None:
        """Return the process number of the engine process in use; None where there is none."""
        process = self._process
        return None if process is None else process.pid

    def open(self, parameters: Parameters) -> None:
        """Open the bundle that the parameters name in a new process, and end the one before.

        Raises BundleError where the bundle cannot be used, EngineLost where the process does not
        survive it; the process before stays in use then. Where that one was lost, opening is tried
        again later: the bundle was fit for use, and may be again once there is memory, or a GPU.
        """
        if self._process is not None and self.state.problem is not None:  # it has failed
            self._process.close()
            self._process = None
        if self._process is None:
            self.state = EngineState("the engine is being loaded", is_fault=False)
        self._restart_at = None
        process = self._opening = EngineProcess()
        try:
            if self.is_interrupted:
                process.kill("the node ends")
            state = _open(process, parameters)
        except (BundleError, EngineLost) as error:
            process.close()
            if self._process is None:
                lost = isinstance(error, EngineLost)
                self._set_problem(str(error), restart=lost or self._has_failed)
            raise
        finally:
            self._opening = None
        before, self._process, self.state = self._process, process, state
        self._is_warm, self._failures, self._has_failed = False, 0, False
        if before is not None:
            before.close()

    def get_ready(self, frame: CameraFrame, timeout_s: float) -> None:
        """Pin the engine to the frame's size, which takes from a third of a second to seconds.

        Raises EngineLost where that fails. Sizes that no bundle takes are refused by ``state``
        before: it is a fault of the engine, such as a lack of memory, that a new process may not
        have.
        """
        size = frame.width, frame.height
        with self._losing_engine() as process:
            try:
                told = process.pin(*size, timeout_s)
            except BundleError as error:
                raise EngineLost(f"not ready for {size[0]}x{size[1]} frames: {error}") from None
        self._is_warm = False
        self.state = dataclasses.replace(self.state, pinned=tuple(told["pinned"]))

    def decode(self, data: Pixels, size: tuple[int, int], parameters: Parameters) -> Pixels:
        """Have the engine process decode a JPEG or PNG, (bytes,) uint8, whose header says that it
        has ``size``, (width, height). Returns RGB (H,W,3) uint8, valid until the next frame.

        Raises MalformedMessage where it does not decode to that size, which is no fault of the
        engine; EngineLost where the process does not survive it, or takes too long.
        """
        with self._losing_engine() as process:
            try:
                return process.decode(data, size, self._timeout_s(parameters))
            except BundleError as error:  # its size was checked before
                raise EngineLost(f"a frame was not decoded: {error}") from None

    def run(
        self, frame: Pixels, outputs: list[EngineOutput], parameters: Parameters
    ) -> Iterator[tuple[EngineOutput, NDArray[Any]]]:
        """Compute the outputs of a frame, (H,W,3) uint8 RGB, and yield each as soon as it is ready,
        valid until the next call: an image as (H,W,3) uint8 RGB, features as (h,w,c) float32.

        Raises InferenceError where the network fails on this frame, EngineLost where the process
        does not survive it, takes too long, or has failed on several frames in a row.
        """
        timeout_s = self._timeout_s(parameters)
        with self._losing_engine() as process:
            try:
                yield from process.run(frame, outputs, timeout_s)
            except InferenceError as error:
                self._failures += 1
                if self._failures < _FAILURES:
                    raise
                raise EngineLost(f"{_FAILURES} frames in a row failed: {error}") from None
        self._is_warm, self._failures = True, 0

    def watch(self, memory_limit_mb: int) -> str | None:
        """Notice a process that has ended while nobody waited for it, and end one that holds more
        memory than the limit (0: none). To be called some times a second.

        Returns the problem where there is a new one.
        """
        process = self._process
        if process is None or self.state.problem is not None:
            return None
        resident_mb = process.resident_mb()
        if memory_limit_mb and resident_mb > memory_limit_mb:
            process.kill(
                f"the engine process held {resident_mb:.0f} MB, over engine_memory_limit_mb"
                f" ({memory_limit_mb}), and was ended"
            )
        why = process.why_ended()
        return None if why is None else self._lose(process, why)

    def restart_is_due(self) -> bool:
        """Tell whether a process that failed is to be replaced now, by ``open``. True once."""
        due = self._restart_at is not None and time.monotonic() >= self._restart_at
        if due:
            self._restart_at = None
        return due

    def give_up(self, why: str) -> None:
        """End the process that is being opened, or else the one in use: nobody waits for it any
        longer."""
        if (process := self._opening or self._process) is not None:
            process.kill(why)

    def interrupt(self) -> None:
        """End the processes, so that a call that waits for one returns soon; for the node's end."""
        self.is_interrupted = True
        for process in (self._process, self._opening):
            if process is not None:
                process.kill("the node ends")

    def close(self) -> None:
        if self._process is not None:
            self._process.close()
        self._process, self.state = None, _NO_ENGINE

    def _timeout_s(self, parameters: Parameters) -> float:
        """Return how long a frame may take, decoding included, in seconds."""
        timeout_s = parameters.hang_after_ms * 1e-3
        if not self._is_warm:  # the first frame allocates, and may compile
            timeout_s = max(timeout_s, parameters.load_timeout_s)
        return timeout_s

    @contextlib.contextmanager
    def _losing_engine(self) -> Iterator[EngineProcess]:
        """A block that uses the process, which is given up where it raises EngineLost."""
        if self._process is None:
            raise EngineLost("there is no engine process")
        try:
            yield self._process
        except EngineLost as error:
            self._lose(self._process, str(error))
            self._process.kill(str(error))
            self._process.close()
            self._process = None
            raise

    def _lose(self, process: EngineProcess, why: str) -> str | None:
        """Keep the problem and the time of the next start, once for each process that is lost."""
        with self._lock:
            if process is not self._process or self.state.problem is not None:
                return None
            problem = self._set_problem(why, restart=True)
        self._on_lost(problem)
        return problem

    def _set_problem(self, problem: str, restart: bool) -> str:
        if restart:
            self._has_failed = True
            now = time.monotonic()
            delay_s = self._delay.after_fault(now)
            self._restart_at = now + delay_s
            problem = f"{problem}; it is started again in {delay_s:g} s"
        self.state = EngineState(problem)
        return problem


class RestartDelay:
    """How long to wait before the next start: 1, 2, 4 … 60 s while one fault follows another."""

    def __init__(self) -> None:
        self._delay_s = 0.0
        self._last_fault = float("-inf")

    def after_fault(self, now: float) -> float:
        """Return the seconds to wait after a fault at ``now``, in seconds of one steady clock."""
        # The process ran from the end of the last delay on.
        again = now - (self._last_fault + self._delay_s) < _SETTLED_S
        self._delay_s = min(2 * self._delay_s, _LONGEST_DELAY_S) if again else _FIRST_DELAY_S
        self._last_fault = now
        return self._delay_s


def _open(process: EngineProcess, parameters: Parameters) -> EngineState:
    told = process.open(
        parameters.load_timeout_s,
        bundle=parameters.bundle,
        backend=parameters.backend,
        device_id=parameters.device_id,
        threads=parameters.threads,
    )
    if DRIVERS_TASK not in told["tasks"]:
        raise BundleError(
            f"bundle {told['folder']}: it has no prompt for {DRIVERS_TASK}",
            f"python -m unirestore_ros build --add-prompt {DRIVERS_TASK}=FILE {told['folder']}",
        )
    return _state_of(told)


def _state_of(told: Message) -> EngineState:
    """Read what the engine process says of its engine."""
    rule = SizeRule(**told["rule"])
    return EngineState(
        problem=None,
        bundle=told["bundle"],
        folder=told["folder"],
        backend=told["backend"],
        tasks=tuple(told["tasks"]),
        rule=dataclasses.replace(rule, working_size=(rule.working_size[0], rule.working_size[1])),
        stride=told["stride"],
        pinned=tuple(told["pinned"]),
    )
