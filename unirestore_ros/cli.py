"""The commands: one table of names, and the one way in for `python -m` and installed executables.

setup.py runs this file to read the table, before there is a package: it imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import NamedTuple


class Command(NamedTuple):
    """Where a command's ``main(argv) -> exit status`` is, and what the help says of it."""

    target: str
    summary: str


COMMANDS = {
    "restore_node": Command(
        "unirestore_ros.node.restore_node:main", "the lifecycle node (takes --ros-args)"
    ),
    "driver_display": Command(
        "unirestore_ros.display.driver_display:main",
        "the driver's picture on topics and on a page (takes --ros-args)",
    ),
    "segmentation_head": Command(
        "unirestore_ros.heads.segmentation_head:main", "features to labels (an example node)"
    ),
    "detection_head": Command(
        "unirestore_ros.heads.detection_head:main", "features to boxes (an example node)"
    ),
    "demo": Command(
        "unirestore_ros.demo.command:main", "play a drive through the node over DDS, and report"
    ),
    "bag": Command(
        "unirestore_ros.recordings.bag_command:main",
        "make, play, restore, watch and compare rosbag2 files",
    ),
    "restore": Command(
        "unirestore_ros.recordings.restore:main", "restore image files, folders and videos offline"
    ),
    "build": Command("unirestore_ros.export.command:main", "compile a bundle from weights"),
    "fetch": Command(
        "unirestore_ros.model.fetch:main", "get SD-Turbo and the released checkpoints, converted"
    ),
    "train": Command(
        "unirestore_ros.train.train_command:main", "train the network, stage by stage"
    ),
    "evaluate": Command("unirestore_ros.evaluate.command:main", "write a table of quality"),
    "bench": Command("unirestore_ros.evaluate.bench_command:main", "write a table of speed"),
    "doctor": Command(
        "unirestore_ros.doctor.examine:main", "what this machine has and lacks, and what to do"
    ),
}

# The extra that holds what a command needs beyond the run-time, where there is one.
EXTRAS = {
    "driver_display": "page",
    "demo": "bag",
    "bag": "bag",
    "build": "build",
    "fetch": "fetch",
    "train": "train",
    "evaluate": "train",
    "bench": "build",
}
_NUMPY_COMPILED = ("numpy.core", "numpy._core")
# Commands that start beside a node that is at work. Their import takes a core for half a second,
# for which a frame of that node would wait.
_STARTED_BESIDE_A_NODE = ("driver_display", "segmentation_head", "detection_head")
_NICE = 10


def usage() -> str:
    lines = ["usage: python -m unirestore_ros COMMAND [ARGUMENT ...]", "", "commands:"]
    lines += [f"  {name:<19}{command.summary}" for name, command in COMMANDS.items()]
    lines += ["", "python -m unirestore_ros COMMAND --help says what a command takes."]
    return "\n".join(lines)


def run(name: str, argv: list[str]) -> int:
    """Import the command's module, and only that, and run it; returns its exit status."""
    module_name, function = COMMANDS[name].target.split(":")
    try:
        with _ended_by_sigint():
            if name in _STARTED_BESIDE_A_NODE:
                module = _import_at_low_priority(module_name)
            else:
                module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing in ("", "unirestore_ros"):
            raise
        sys.stderr.write(f"{name}: {_how_to_install(name, missing)}\n")
        return 1
    except ImportError as error:
        # A module that was compiled for another NumPy.
        if not str(error).startswith(_NUMPY_COMPILED):
            raise
        sys.stderr.write(f"{name}: {error}: python -m unirestore_ros doctor says what to do\n")
        return 1
    status: int = getattr(module, function)(argv)
    return status


@contextlib.contextmanager
def _ended_by_sigint() -> Iterator[None]:
    """A block in which SIGINT ends the process at once, as it ends a program in C.

    While modules are imported, a KeyboardInterrupt may be raised in the callback of a weak
    reference, where Python prints and ignores it: the command would go on.
    """
    before = signal.getsignal(signal.SIGINT)
    is_pythons = before is signal.default_int_handler  # SIGINT may be ignored (nohup), or handled
    if is_pythons:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if is_pythons:
            signal.signal(signal.SIGINT, before)


def _import_at_low_priority(module_name: str) -> ModuleType:
    """Import a module in a helper thread of lower priority. The main thread keeps its own, since a
    thread cannot raise its priority again without privileges. Threads that the import itself starts
    keep the lower one."""

    def import_it() -> ModuleType:
        if sys.platform == "linux":  # elsewhere it would be that of the whole process
            os.nice(_NICE)
        return importlib.import_module(module_name)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(import_it).result()


def _how_to_install(command: str, module: str) -> str:
    if module in ("rclpy", "builtin_interfaces") or module.endswith("_msgs"):
        return (
            f"{module} is not importable: source a ROS 2 installation"
            " (source /opt/ros/DISTRO/setup.bash), or install ROS from PyPI:"
            " pip install 'unirestore_ros[ros]'"
        )
    extra = EXTRAS.get(command)
    package = f"unirestore_ros[{extra}]" if extra else "unirestore_ros"
    return f"the Python module {module} is missing: pip install '{package}'"


def main(argv: list[str] | None = None) -> int:
    """Run `python -m unirestore_ros COMMAND ...`; return its exit status, 2 without a command."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] in COMMANDS:
        return run(arguments[0], arguments[1:])
    if arguments and arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage() + "\n")
        return 0
    if arguments and arguments[0] == "--names":
        sys.stdout.write("\n".join(COMMANDS) + "\n")
        return 0
    if arguments and arguments[0] == "--version":
        package = importlib.import_module("unirestore_ros")
        sys.stdout.write(f"unirestore_ros {package.__version__}\n")
        return 0
    sys.stderr.write(_refusal(arguments) + "\n")
    return 2


def _refusal(arguments: list[str]) -> str:
    if not arguments:
        return usage()
    near = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"there is no command {arguments[0]!r}.{hint}\n\n{usage()}"


def executable() -> int:
    """Run the command that the installed executable is named after."""
    return ignore_signals(run(Path(sys.argv[0]).stem, sys.argv[1:]))


def ignore_signals(status: int) -> int:
    """Ignore SIGINT and SIGTERM from now on, when only the exit is left; return ``status``.

    While the interpreter ends, a signal would kill it: a Ctrl-C reaches a node from the terminal
    and once more from `ros2 launch`, which would then call it dead instead of finished.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    return status
