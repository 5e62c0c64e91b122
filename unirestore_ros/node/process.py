"""The process that a node lives in: its signals, and its end."""

from __future__ import annotations

import contextlib
import faulthandler
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from unirestore_ros.memory import keep_image_buffers
from unirestore_ros.msgs.parameter_struct import ParameterRefused
from unirestore_ros.msgs.transport import remove_unfinished_ports, wait_for_stable_ports

# Middleware that a killed process has left in disorder can block the start of the next for ever.
START_LIMIT_S = 60.0
_LOOK_EVERY_S = 0.2

AnyNode = TypeVar("AnyNode", bound=Node)
_StopRequests: TypeAlias = "queue.SimpleQueue[object]"


def run_command(
    name: str,
    make_node: Callable[[], AnyNode],
    start: Callable[[AnyNode], object],
    argv: list[str] | None,
    errors: tuple[type[Exception], ...] = (),
) -> int:
    """Run a node as a command; return 0 after SIGINT or SIGTERM, and 2 where it cannot start.

    ``errors``: besides a refused parameter, what ends it with one line instead of a traceback.
    """
    keep_image_buffers()
    arguments = sys.argv[1:] if argv is None else argv
    if extra := remove_ros_args(arguments):
        sys.stderr.write(f"{name}: unknown arguments {' '.join(extra)}; see --ros-args\n")
        return 2
    refusals: tuple[type[Exception], ...] = (ParameterRefused, ParameterException, *errors)
    try:
        run_node(make_node, start, arguments)
    except refusals as error:
        get_logger(name).fatal(str(error))
        return 2
    return 0


def run_node(
    make_node: Callable[[], AnyNode], start: Callable[[AnyNode], object], arguments: Sequence[str]
) -> None:
    """Make a node, start it, and spin it until SIGINT or SIGTERM; raises what a callback raised.
    ``arguments`` are those of ROS."""
    with _ros(arguments) as requests:
        with ending_a_hung_start():
            node = make_node()
        try:
            start(node)
            _spin_until_requested(node, requests)
        finally:
            node.destroy_node()


@contextlib.contextmanager
def ros_node(
    name: str, namespace: str = "", arguments: Sequence[str] = ()
) -> Iterator[tuple[Node, Callable[[], bool]]]:
    """A node for a program with a loop of its own, and a function that says whether SIGINT or
    SIGTERM has asked to stop. ``arguments`` are those of ROS."""
    with _ros(arguments) as requests:
        with ending_a_hung_start():
            node = rclpy.create_node(name, namespace=namespace)
        try:
            yield node, lambda: not requests.empty()
        finally:
            node.destroy_node()


@contextlib.contextmanager
def ending_a_hung_start() -> Iterator[None]:
    """A block that may take ``START_LIMIT_S``. Then the process ends with status 1 and says where
    it was, so that a launch file's respawn starts it again. No Python thread could do that, since
    rclpy keeps the interpreter's lock while it waits."""
    faulthandler.dump_traceback_later(START_LIMIT_S, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextlib.contextmanager
def _ros(arguments: Sequence[str]) -> Iterator[_StopRequests]:
    """ROS from its start to its end, and a queue that gets an item for each signal to stop."""
    requests: _StopRequests = queue.SimpleQueue()  # safe to put into from a signal's handler
    before = {
        number: signal.signal(number, lambda received, _: requests.put(received))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        remove_unfinished_ports()
        with ending_a_hung_start():
            rclpy.init(args=list(arguments), signal_handler_options=SignalHandlerOptions.NO)
        try:
            # Fast DDS opens its ports with the first node.
            if not wait_for_stable_ports(rclpy.get_default_context().get_domain_id()):
                get_logger("unirestore_ros").warning(
                    "the ports of a killed process are still being recreated in Fast DDS's shared"
                    " memory: if nothing is received, start this process again"
                )
            yield requests
        finally:
            rclpy.shutdown()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _spin_until_requested(node: Node, requests: _StopRequests) -> None:
    """Spin in a thread of its own, because a wait inside DDS does not end when a signal arrives.

    The thread is joined before the node is destroyed. One that still spins when the process exits
    aborts it, and leaves files in /dev/shm.
    """
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
            _wait_for_one(requests)
        finally:
            # As a task: it wakes the wait, and no callback is cut short.
            executor.create_task(stopped.set)
    executor.shutdown()
    spinning.result()


def _wait_for_one(requests: _StopRequests) -> None:
    """Wait for a request, and look for signals meanwhile: one that another thread receives, or that
    comes just before the main thread begins to wait, does not end its wait."""
    while True:
        with contextlib.suppress(queue.Empty):
            requests.get(timeout=_LOOK_EVERY_S)
            return
