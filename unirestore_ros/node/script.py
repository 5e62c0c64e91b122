"""A node of a program that has a loop of its own, rather than callbacks alone."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions


@contextlib.contextmanager
def ros_node(
    name: str, namespace: str = "", arguments: Sequence[str] = ()
) -> Iterator[tuple[Node, Callable[[], bool]]]:
    """A node, and whether SIGINT or SIGTERM has asked to stop. ``arguments`` are those of ROS."""
    stop = False

    def ask_to_stop(number: int, frame: object) -> None:
        nonlocal stop
        stop = True

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, ask_to_stop) for number in numbers}
    rclpy.init(args=list(arguments), signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node(name, namespace=namespace)
    try:
        yield node, lambda: stop
    finally:
        node.destroy_node()
        rclpy.shutdown()
        for number, handler in before.items():
            signal.signal(number, handler)
