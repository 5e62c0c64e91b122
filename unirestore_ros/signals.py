"""End processes in order: on a signal, and children with their parent."""

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
    """Raise SystemExit in the block on SIGTERM and SIGHUP, so that its cleanup runs."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def death_with_parent(number: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """Return what a child is to run, before exec or itself: it then gets this signal when the
    thread that started it ends, even by SIGKILL."""
    libc = ctypes.CDLL(None)  # loaded here: after the fork there is only the call

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(number))

    return ask


def start_worker() -> None:
    """Initialise a pool's process: Ctrl-C is for the parent to handle, whose death ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    death_with_parent()()
