"""Each picture of the restorer waits a moment for what `~/status` says of it."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, NamedTuple, TypeVar

from unirestore_ros.display.selection import Verdict

T = TypeVar("T")

# The status leaves right after the picture, in a thread of its own: some milliseconds, on a busy
# machine some tens.
GRACE_S = 0.1
_UNCONFIRMED = Verdict(None, "nothing on its status topic")


class _Waiting(NamedTuple, Generic[T]):
    stamp: int
    picture: T
    since: float


class Confirmation(Generic[T]):
    """Brings pictures and statuses of one stamp together. Both queues are bounded."""

    def __init__(self) -> None:
        self._said: OrderedDict[int, Verdict] = OrderedDict()
        self._waiting: deque[_Waiting[T]] = deque()

    def picture(self, stamp: int, picture: T, now: float) -> list[tuple[T, Verdict]]:
        """A picture came; returns those that wait no longer, the oldest first."""
        self._waiting.append(_Waiting(stamp, picture, now))
        return self.due(now)

    def status(self, stamp: int, verdict: Verdict, now: float) -> list[tuple[T, Verdict]]:
        self._said[stamp] = verdict
        while len(self._said) > 32:
            self._said.popitem(last=False)
        return self.due(now)

    def due(self, now: float) -> list[tuple[T, Verdict]]:
        """Pictures that have their status or have waited long enough."""
        done = []
        while self._waiting and self._is_due(self._waiting[0], now):
            stamp, picture, _ = self._waiting.popleft()
            done.append((picture, self._said.pop(stamp, _UNCONFIRMED)))
        return done

    def _is_due(self, waiting: _Waiting[T], now: float) -> bool:
        # One that is confirmed does not wait for an older one that is not.
        confirmed = any(each.stamp in self._said for each in self._waiting)
        return confirmed or now - waiting.since >= GRACE_S or len(self._waiting) > 8
