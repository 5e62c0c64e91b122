"""How processes end: a signal to stop leaves blocks in order, a child goes with its parent."""

from __future__ import annotations

import contextlib
import ctypes
import signal
from collections.abc import Callable, Iterator

# Exit status of a command after SIGINT, as shells have it.
INTERRUPTED = 128 + signal.SIGINT
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@contextlib.contextmanager
def signals_as_exits() -> Iterator[None]:
    """SIGTERM and SIGHUP leave the block as SystemExit, so that what must be ended is ended."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def death_with_parent() -> Callable[[], None]:
    """To run in a child before exec: it gets SIGTERM when the parent is gone, even by SIGKILL."""
    libc = ctypes.CDLL(None)  # loaded here: after the fork there is only the call

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))

    return ask


def start_worker() -> None:
    """Initialise a pool's process: Ctrl-C is for the parent to handle, whose death ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    death_with_parent()()
