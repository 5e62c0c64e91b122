"""The process of a node: memory that is kept for the next image, errors that end it."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

COUNT_FAULTS = """
import resource
from unirestore_ros.memory import keep_image_buffers
if {keep}:
    assert keep_image_buffers()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def fill():
    return b"x" * 6_000_000
fill()
before = faults()
for _ in range(20):
    fill()
print((faults() - before) // 20)
"""


def run(
    code: str, repository: Path, limit_s: float | None = None
) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", code]
    return subprocess.run(words, cwd=repository, capture_output=True, text=True, timeout=limit_s)


def output_of(code: str, repository: Path) -> str:
    done = run(code, repository)
    done.check_returncode()
    return done.stdout


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
def test_buffers_are_kept_for_the_next_image(repository: Path) -> None:
    without = int(output_of(COUNT_FAULTS.format(keep=False), repository))
    kept = int(output_of(COUNT_FAULTS.format(keep=True), repository))
    assert kept < without / 2 and kept < 100


HANGING_NODE = """
import ctypes
from unirestore_ros.node import process
process.START_LIMIT_S = 1.0
def make():
    ctypes.PyDLL(None).sleep(60)  # with the interpreter's lock, as rclpy waits for DDS
process.run_node(make, lambda node: None, [])
"""


@pytest.mark.dds
def test_a_start_that_hangs_ends_for_respawn(repository: Path) -> None:
    done = run(HANGING_NODE, repository, limit_s=50)  # and not the 60 s that it would sleep
    assert done.returncode == 1
    assert "Timeout" in done.stderr and "run_node" in done.stderr


FAILING_NODE = """
import signal
import rclpy
from rclpy.node import Node
from unirestore_ros.node import process
process.START_LIMIT_S = 1.0
before = signal.getsignal(signal.SIGTERM)
class Failing(Node):
    def __init__(self):
        super().__init__("failing")
        self.create_timer(2.5, self.fail)  # the limit is over by then
    def fail(self):
        raise ZeroDivisionError("in a callback")
try:
    process.run_node(Failing, lambda node: None, [])
except ZeroDivisionError as error:
    print("raised", error, "and left ROS", not rclpy.ok())
    print("handler restored", signal.getsignal(signal.SIGTERM) is before)
"""


@pytest.mark.dds
def test_what_a_callback_raises_ends_the_node(repository: Path) -> None:
    assert output_of(FAILING_NODE, repository) == (
        "raised in a callback and left ROS True\nhandler restored True\n"
    )


ELSEWHERE_SIGNALLED_NODE = """
import signal, threading
import rclpy
from unirestore_ros.node import process
def start(node):
    def signal_this_thread():
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    node.create_timer(0.05, signal_this_thread)
process.run_node(lambda: rclpy.create_node("signalled"), start, [])
"""


@pytest.mark.dds
def test_a_signal_ends_the_node_in_whichever_thread_it_arrives(repository: Path) -> None:
    """One that arrives in another thread, or just before the main thread begins to wait, does not
    wake the main thread."""
    done = run(ELSEWHERE_SIGNALLED_NODE, repository, limit_s=30)
    assert (done.returncode, done.stderr) == (0, "")
