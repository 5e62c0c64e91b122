"""The process that a node lives in: its memory allocator, its signals, its way to the end."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

# Parameters of mallopt(3), as in glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MMAP_THRESHOLD_BYTES = 32 << 20
_TRIM_THRESHOLD_BYTES = 256 << 20

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def keep_image_buffers() -> bool:
    """Have glibc keep freed buffers of an image's size for the next image; False on another libc.

    By default each 6 MB buffer goes back to the system, which costs some 4,800 page faults an image
    and doubles the latency of its transport.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(
        libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        and libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)
    )


AnyNode = TypeVar("AnyNode", bound=Node)
StopRequests: TypeAlias = "queue.SimpleQueue[object]"


def wait_for_stop(node: Node, requests: StopRequests) -> None:
    """What the main thread does by default while the node spins."""
    requests.get()


def run_node(
    make_node: Callable[[], AnyNode],
    start: Callable[[AnyNode], object],
    arguments: list[str],
    main_thread: Callable[[AnyNode, StopRequests], None] = wait_for_stop,
) -> None:
    """Make a node, start it, spin it until SIGINT or SIGTERM, and take all down in the order that
    leaves nothing behind: a thread that still spins when the process exits aborts it, and orphans
    files in /dev/shm.

    ``arguments`` are those of ROS. ``main_thread`` runs meanwhile, where a window system wants to
    be called, and returns once the queue it is given has an item. Raises what a callback raised.
    """
    with _stop_requests() as requests:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
        try:
            node = make_node()
            try:
                start(node)
                _spin_until(lambda: main_thread(node, requests), node, requests)
            finally:
                node.destroy_node()
        finally:
            rclpy.shutdown()


def _spin_until(stopped_by: Callable[[], None], node: Node, requests: StopRequests) -> None:
    """Spin in a thread of its own: a wait inside DDS does not end when a signal arrives."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    stopped = threading.Event()

    def spin() -> None:
        while not stopped.is_set():
            executor.spin_once()

    with ThreadPoolExecutor(1, "ros") as pool:
        spinning = pool.submit(spin)
        spinning.add_done_callback(requests.put)
        try:
            stopped_by()
        finally:
            # As a task: it wakes the wait, and no callback is cut short.
            executor.create_task(stopped.set)
    executor.shutdown()
    spinning.result()


@contextlib.contextmanager
def _stop_requests() -> Iterator[StopRequests]:
    """A queue that gets an item for each signal to stop; putting into one is safe in a handler."""
    requests: StopRequests = queue.SimpleQueue()
    before = {
        number: signal.signal(number, lambda received, _: requests.put(received))
        for number in _STOP_SIGNALS
    }
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
