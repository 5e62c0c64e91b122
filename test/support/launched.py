"""A launch file launched as a process of its own, and ended as Ctrl-C in a terminal ends it.

Who imports this is skipped where there is no `launch`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

# The folder launch/ of a checkout is importable as `launch`, hence the module inside it.
pytest.importorskip("launch.actions", reason="launch comes with a ROS 2 installation")
pytest.importorskip("launch_ros.actions", reason="launch_ros comes with a ROS 2 installation")
logging.setLoggerClass(logging.Logger)  # as in test/conftest.py: launch has set its own

_LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

source = PythonLaunchDescriptionSource(sys.argv[1])
said = [tuple(argument.split(":=")) for argument in sys.argv[2:]]
service = LaunchService(argv=sys.argv[2:])
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=said)])
)
sys.exit(service.run())
"""


def load_file(path: Path) -> ModuleType:
    """A launch file as a module."""
    from launch.launch_description_sources import python_launch_file_utilities as utilities

    module: ModuleType = utilities.load_python_launch_file_as_module(str(path))
    return module


def arguments(module: ModuleType, **said: str) -> dict[str, str]:
    """A launch file's arguments at their defaults, but for those that are said."""
    defaults = {
        argument.name: "".join(part.text for part in argument.default_value or ())
        for argument in module.ARGUMENTS
    }
    return defaults | said


class Launched:
    """A launch in a session of its own, whose processes are gone when the block is left."""

    def __init__(self, file: Path, said: Sequence[str], folder: Path) -> None:
        self._log = folder / "launch.log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _LAUNCH, str(file), *said],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process of launch, whose children are the nodes."""
        return self._process.pid

    def wait(self, timeout_s: float) -> int:
        return self._process.wait(timeout_s)

    def interrupt(self, timeout_s: float) -> int:
        """As Ctrl-C in a terminal: the nodes get it too, and once more from launch."""
        os.killpg(self._process.pid, signal.SIGINT)
        return self.wait(timeout_s)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def __enter__(self) -> Launched:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
