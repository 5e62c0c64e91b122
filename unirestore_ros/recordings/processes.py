"""Run child processes that are always ended, and report the death of one with its last output."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from unirestore_ros.recordings import RecordingError
from unirestore_ros.signals import death_with_parent

# How long a child is given after each signal, in seconds.
END_STEPS = ((signal.SIGINT, 10.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0))
_TAIL_LINES = 15
_TAIL_BYTES = 8192

_Group = TypeVar("_Group", bound="Children")


class Child:
    """One process; what it writes goes to a log file."""

    def __init__(
        self, name: str, argv: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as stream:
            # A session of its own: Ctrl-C reaches the parent alone, which ends them in order.
            self._process = subprocess.Popen(
                list(argv),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=death_with_parent(),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return None while it runs; a negative code is the signal that ended it."""
        return self._process.poll()

    def tail(self) -> str:
        """Return the last lines that it wrote."""
        with self._log.open("rb") as stream:
            stream.seek(max(0, self._log.stat().st_size - _TAIL_BYTES))
            lines = stream.read().decode(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:]) or "    (nothing)"

    def failure(self, what: str) -> RecordingError:
        """Make an error that carries this child's last output."""
        return RecordingError(f"{what}; the last that the {self.name} wrote:\n{self.tail()}")

    def end(self) -> int:
        """Send SIGINT, then SIGTERM, then SIGKILL, each with a limit; returns the exit code."""
        for number, limit in END_STEPS:
            if self._process.poll() is not None:
                break
            self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(limit)
        return self._process.wait()


class Children:
    """Processes that are watched together, and ended together, the youngest first, when the block
    is left, however it is left."""

    def __init__(self, environment: Mapping[str, str], log_folder: Path) -> None:
        self._environment = environment
        self.folder = log_folder
        self._children: list[Child] = []

    def __enter__(self: _Group) -> _Group:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def start(self, name: str, *argv: str) -> Child:
        """Start a process of this Python: ``argv`` follows the interpreter."""
        log = self.folder / f"{name}.log"
        child = Child(name, [sys.executable, *argv], self._environment, log)
        self._children.append(child)
        return child

    def check(self) -> None:
        """Raise RecordingError, with its name, where a child ended by itself, even with success."""
        for child in self._children:
            if (code := child.exit_code()) is not None:
                raise child.failure(f"the {child.name} {_how_it_ended(code)}")

    def failure(self, what: str) -> RecordingError:
        """Make an error that carries the last output of every child."""
        said = "".join(f"\nthe last that the {c.name} wrote:\n{c.tail()}" for c in self._children)
        return RecordingError(f"{what};{said}")

    def wait(self, seconds: float) -> None:
        """Let time pass; RecordingError as soon as a child has ended by itself."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            self.check()

    def end(self) -> None:
        """End all, even where ending one of them is interrupted."""
        with contextlib.ExitStack() as endings:
            for child in self._children:
                endings.callback(child.end)
            self._children = []


def _how_it_ended(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit status {code}"
