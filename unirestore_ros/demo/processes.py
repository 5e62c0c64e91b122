"""Child processes that are always ended, and whose death is told with their last words."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from unirestore_ros.demo.errors import DemoError
from unirestore_ros.signals import death_with_parent

# How long a child is given after each signal, in seconds.
END_STEPS = ((signal.SIGINT, 5.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0))
_TAIL_LINES = 15
_TAIL_BYTES = 8192


class Child:
    """One process; what it writes goes to a log file."""

    def __init__(
        self, name: str, argv: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.log = log
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
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def tail(self) -> str:
        """The last lines that it wrote."""
        with self.log.open("rb") as stream:
            stream.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            lines = stream.read().decode(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:]) or "    (nothing)"

    def check(self) -> None:
        """DemoError where it has ended with anything but success."""
        code = self.exit_code()
        if code:
            raise self.failure(f"the {self.name} {_how_it_ended(code)}")

    def failure(self, what: str) -> DemoError:
        """An error that carries this child's last words."""
        return DemoError(f"{what}; the last that the {self.name} wrote:\n{self.tail()}")

    def end(self) -> int:
        """SIGINT, then SIGTERM, then SIGKILL, each with a limit; returns the exit code."""
        for number, limit in END_STEPS:
            if self._process.poll() is not None:
                break
            self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(limit)
        return self._process.wait()


class Children:
    """The children of the demo, watched together and ended together, the youngest first."""

    def __init__(self, environment: Mapping[str, str], log_folder: Path) -> None:
        self._environment = environment
        self._log_folder = log_folder
        self._children: list[Child] = []
        self._endings = contextlib.ExitStack()

    def start(self, name: str, *argv: str) -> Child:
        """Start a process of this Python: ``argv`` follows the interpreter."""
        log = self._log_folder / f"{name}.log"
        child = Child(name, [sys.executable, *argv], self._environment, log)
        self._children.append(child)
        self._endings.callback(child.end)
        return child

    def check(self) -> None:
        """DemoError that names the first child that failed."""
        for child in self._children:
            child.check()

    def end(self) -> None:
        """End all, even where ending one of them is interrupted."""
        self._endings.close()


@contextlib.contextmanager
def children(environment: Mapping[str, str], log_folder: Path) -> Iterator[Children]:
    """Children that are ended when the block is left, however it is left."""
    group = Children(environment, log_folder)
    try:
        yield group
    finally:
        group.end()


def _how_it_ended(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit status {code}"
