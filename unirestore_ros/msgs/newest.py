"""A thread that always works on the newest of what it is offered: nothing queues up behind it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class NewestWins(Generic[T]):
    """Hands items to ``handle`` in a thread of its own, one at a time; one at most is waiting."""

    def __init__(self, handle: Callable[[T], None], name: str) -> None:
        self._handle = handle
        self._changed = threading.Condition()
        self._waiting: deque[T] = deque(maxlen=1)
        self._errands: deque[Callable[[], None]] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name=name)
        self._thread.start()

    def offer(self, item: T) -> bool:
        """Let the item wait for its turn; True where it took the place of one that waited."""
        with self._changed:
            replaced = bool(self._waiting)
            self._waiting.append(item)
            self._changed.notify()
        return replaced

    def run_between(self, errand: Callable[[], None]) -> None:
        """Call ``errand`` in the thread, before the next item."""
        with self._changed:
            self._errands.append(errand)
            self._changed.notify()

    def discard(self) -> None:
        """Forget the item that waits."""
        with self._changed:
            self._waiting.clear()

    def is_alive(self) -> bool:
        """False once stopped, or once ``handle`` or an errand has raised."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the thread after what it is doing; errands that wait are still run."""
        with self._changed:
            self._stopping = True
            self._waiting.clear()
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while (work := self._next()) is not None:
            work()

    def _next(self) -> Callable[[], None] | None:
        """What to do now; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._errands or self._waiting or self._stopping)
            if self._errands:
                return self._errands.popleft()
            if self._stopping:
                return None
            item = self._waiting.popleft()
        return lambda: self._handle(item)
