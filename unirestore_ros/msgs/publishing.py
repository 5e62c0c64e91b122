"""Sending serialised messages: each topic has a thread, and only its newest message waits.

rclpy keeps the interpreter's lock while DDS writes. A write to a subscriber that was stopped
(SIGSTOP, a debugger, Ctrl-Z) takes up to a second the first time over Fast DDS's shared memory, and
some ten milliseconds each time after, until its lease ends: after 3 s with config/fastdds.xml, else
after 20. No other Python thread would run meanwhile. A foreign call releases the lock, so messages
are published through rcl's own function. The function and its structures have been the same from
ROS 2 Foxy on (rcl/publisher.h, rcutils/types/uint8_array.h, rcutils/allocator.h).
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.lifecycle import LifecyclePublisher
from rclpy.publisher import Publisher
from rclpy.serialization import serialize_message

_LOG_EVERY_S = 5.0

T = TypeVar("T")


class LatestOnlyWorker(Generic[T]):
    """Handles items in a thread of its own, one at a time; at most one waits, the newest."""

    def __init__(
        self,
        handle: Callable[[T], None],
        name: str,
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        """``on_error``: called, in the thread, with what ``handle`` or a task raises; without it
        such an error ends the thread."""
        self._handle = handle
        self._on_error = on_error
        self._changed = threading.Condition()
        self._waiting: deque[T] = deque(maxlen=1)
        self._tasks: deque[Callable[[], object]] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name=name)
        self._thread.start()

    def offer(self, item: T) -> bool:
        """Put the item in the place of the one that waits; True where there was one."""
        with self._changed:
            replaced = bool(self._waiting)
            self._waiting.append(item)
            self._changed.notify()
        return replaced

    def run_between(self, task: Callable[[], object]) -> None:
        """Call ``task`` in the thread, before the next item."""
        with self._changed:
            self._tasks.append(task)
            self._changed.notify()

    def discard(self) -> None:
        """Drop the item that waits."""
        with self._changed:
            self._waiting.clear()

    def is_alive(self) -> bool:
        """Tell whether the thread runs: False once stopped, or once an error has ended the
        thread."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the thread after what it is doing; tasks that wait are still run."""
        with self._changed:
            self._stopping = True
            self._waiting.clear()
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except Exception as error:
                if self._on_error is None:
                    raise
                self._on_error(error)

    def _next(self) -> Callable[[], object] | None:
        """Wait for what is to be done next; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._tasks or self._waiting or self._stopping)
            if self._tasks:
                return self._tasks.popleft()
            if self._stopping:
                return None
            # Only the function below holds the item, so that its memory goes with the call.
            item = self._waiting.popleft()
        return lambda: self._handle(item)


class Topic:
    """Sends the newest message; a subscriber that is stopped delays this topic at most."""

    def __init__(self, publisher: Publisher, logger: RcutilsLogger) -> None:
        self.publisher = publisher
        self._logger = logger
        self._worker = LatestOnlyWorker(self._publish, publisher.topic_name)

    def has_subscriber(self) -> bool:
        return bool(self.publisher.get_subscription_count() > 0)

    def send(self, message: NDArray[np.uint8]) -> None:
        """Send a message in CDR, (bytes,) uint8, whose memory may not change any more. Does nothing
        while the node is inactive."""
        if not isinstance(self.publisher, LifecyclePublisher) or self.publisher.is_activated:
            self._worker.offer(message)

    def send_object(self, message: Any) -> None:
        """Send a message as rclpy has it."""
        self.send(np.frombuffer(serialize_message(message), np.uint8))

    def stop(self) -> None:
        """End the thread; whoever made the publisher destroys it."""
        self._worker.stop()

    def _publish(self, message: NDArray[np.uint8]) -> None:
        try:
            publish_serialized(self.publisher, message)
        except PublishError as error:
            self._logger.warning(f"not sent: {error}", throttle_duration_sec=_LOG_EVERY_S)


class PublishError(RuntimeError):
    """DDS did not take a message."""


def publish_serialized(publisher: Publisher, message: NDArray[np.uint8]) -> None:
    """Publish a message in CDR, (bytes,) uint8; PublishError where it is not taken."""
    publish, reset_error = _rcl_functions()
    array = _Uint8Array(message.ctypes.data, message.size, message.size)
    with publisher.handle:  # not destroyed meanwhile
        status = publish(publisher.handle.pointer, ctypes.byref(array), None)
    if status != 0:
        reset_error()
        raise PublishError(f"{publisher.topic_name}: rcl says {status}")


class _Allocator(ctypes.Structure):
    _fields_ = (
        ("allocate", ctypes.c_void_p),
        ("deallocate", ctypes.c_void_p),
        ("reallocate", ctypes.c_void_p),
        ("zero_allocate", ctypes.c_void_p),
        ("state", ctypes.c_void_p),
    )


class _Uint8Array(ctypes.Structure):
    _fields_ = (
        ("buffer", ctypes.c_void_p),
        ("buffer_length", ctypes.c_size_t),
        ("buffer_capacity", ctypes.c_size_t),
        ("allocator", _Allocator),
    )


@functools.cache
def _rcl_functions() -> tuple[Any, Any]:
    """Find rcl's functions to publish and to reset an error, in the libraries of rclpy."""
    publish = ctypes.CDLL("librcl.so").rcl_publish_serialized_message
    publish.argtypes = (ctypes.c_void_p, ctypes.POINTER(_Uint8Array), ctypes.c_void_p)
    publish.restype = ctypes.c_int
    reset_error = ctypes.CDLL("librcutils.so").rcutils_reset_error
    reset_error.argtypes, reset_error.restype = (), None
    return publish, reset_error
