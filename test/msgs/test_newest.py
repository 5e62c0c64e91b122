"""The thread that works on the newest item."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from unirestore_ros.msgs.newest import NewestWins

LIMIT_S = 10.0


class Hands:
    """Handles items only when it is allowed to."""

    def __init__(self) -> None:
        self.handled: list[object] = []
        self.began = threading.Semaphore(0)
        self.allowed = threading.Semaphore(0)

    def __call__(self, item: object) -> None:
        self.began.release()
        assert self.allowed.acquire(timeout=LIMIT_S)
        self.handled.append(item)


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def worker(hands: Hands) -> Iterator[NewestWins[object]]:
    worker = NewestWins(hands, "test")
    yield worker
    hands.allowed.release(100)
    worker.stop()


def test_the_newest_takes_the_place_of_the_one_waiting(
    hands: Hands, worker: NewestWins[object]
) -> None:
    assert not worker.offer(1)
    assert hands.began.acquire(timeout=LIMIT_S)
    assert not worker.offer(2)  # 1 is being handled, none waits
    assert worker.offer(3)
    assert worker.offer(4)
    hands.allowed.release(2)
    assert hands.began.acquire(timeout=LIMIT_S)
    worker.stop()
    assert hands.handled == [1, 4]


def test_what_waits_can_be_forgotten(hands: Hands, worker: NewestWins[object]) -> None:
    worker.offer(1)
    assert hands.began.acquire(timeout=LIMIT_S)
    worker.offer(2)
    worker.discard()
    hands.allowed.release(2)
    worker.stop()
    assert hands.handled == [1]


def test_an_errand_runs_between_two_items(hands: Hands, worker: NewestWins[object]) -> None:
    worker.offer(1)
    assert hands.began.acquire(timeout=LIMIT_S)
    worker.offer(2)
    worker.run_between(lambda: hands.handled.append("errand"))
    hands.allowed.release(2)
    assert hands.began.acquire(timeout=LIMIT_S)
    worker.stop()
    assert hands.handled == [1, "errand", 2]


def test_stopping_still_runs_errands(hands: Hands, worker: NewestWins[object]) -> None:
    worker.run_between(lambda: hands.handled.append("errand"))
    worker.stop()
    assert hands.handled == ["errand"]
    assert not worker.is_alive()


def test_an_item_that_waits_is_let_go_of(worker: NewestWins[object], hands: Hands) -> None:
    """A frame holds megabytes: none is kept once it has been handled."""
    import weakref

    class Item:
        pass

    item = Item()
    gone = weakref.ref(item)
    worker.offer(item)
    assert hands.began.acquire(timeout=LIMIT_S)
    hands.allowed.release()
    worker.offer(2)
    assert hands.began.acquire(timeout=LIMIT_S)
    hands.handled.clear()
    del item
    assert gone() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_unforeseen_error_shows() -> None:
    def fail(item: object) -> None:
        raise ZeroDivisionError

    worker = NewestWins(fail, "test")
    assert worker.is_alive()
    worker.offer(1)
    worker.stop()
    assert not worker.is_alive()
