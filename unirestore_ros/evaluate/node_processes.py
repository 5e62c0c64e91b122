"""The processes of a measurement: the node and those around it, ended together."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from unirestore_ros.msgs.transport import profile_path, profile_variable

END_LIMIT_S = 20.0
NODE_NAME = "unirestore"


class Processes:
    """Started in order, ended in reverse; what they write goes to a folder."""

    def __init__(self, folder: Path, endings: contextlib.ExitStack) -> None:
        self.folder = folder
        self._endings = endings
        self._environment = {**os.environ, **_environment(), "ROS_LOG_DIR": str(folder / "log")}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start_node(
        self, namespace: str, camera: str, *parameters: str, command: str = "restore_node"
    ) -> subprocess.Popen[bytes]:
        """`restore_node` of a namespace, or another command's node, fed by a camera's topic."""
        words = ["-r", f"__ns:={namespace}", "-r", f"image:={camera}"]
        words += ["-r", f"camera_info:={camera.rpartition('/')[0]}/camera_info"]
        words += [word for parameter in parameters for word in ("-p", parameter)]
        return self._start(command, "unirestore_ros", command, "--ros-args", *words)

    def start_module(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        """`python -m MODULE`, for what is neither."""
        return self._start(module, module, *arguments)

    def start_role(self, role: str, *arguments: str) -> subprocess.Popen[bytes]:
        """One of `node_roles`."""
        return self._start(role, "unirestore_ros.evaluate.node_roles", role, *arguments)

    def check(self) -> None:
        """RuntimeError with its last words where one has ended by itself."""
        for name, process in self._running.items():
            if process.poll() is not None:
                said = (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{name} ended with status {process.returncode}:\n{said}")

    def wait(self, seconds: float) -> None:
        """Let time pass, and see that all are still there."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            self.check()

    def end(self, name: str) -> None:
        process = self._running.pop(name)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def end_all(self) -> None:
        for name in reversed(list(self._running)):
            self.end(name)

    def _start(self, name: str, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running[name] = process
        return process


@contextlib.contextmanager
def processes(folder: Path) -> Iterator[Processes]:
    """Processes that are ended when the block is left, however it is left."""
    with contextlib.ExitStack() as endings:
        group = Processes(folder, endings)
        endings.callback(group.end_all)
        yield group


def memory_mb(pid: int) -> Mapping[str, float]:
    """Resident memory of a process, in MB of 10^6 bytes: all of it, and what is its own."""
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = dict(re.findall(r"(VmRSS|RssAnon):\s+(\d+) kB", status))
    return {
        "resident": int(kilobytes["VmRSS"]) * 1.024e-3,
        "own": int(kilobytes["RssAnon"]) * 1.024e-3,
    }


def has_loaded(pid: int, library: str) -> bool:
    """Whether a process has mapped a file with that in its name."""
    return library in Path(f"/proc/{pid}/maps").read_text()


def _environment() -> dict[str, str]:
    """The profile under which images arrive, and glibc's thresholds for who is not the node."""
    return {
        profile_variable(): str(profile_path()),
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
        "ROS_DOMAIN_ID": os.environ.get("ROS_DOMAIN_ID", str(1 + os.getpid() % 101)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
