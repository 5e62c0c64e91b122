"""The processes of a measurement: the node and those around it, ended together."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from unirestore_ros.msgs.transport import profile_path, profile_variable
from unirestore_ros.recordings.processes import Child, Children

NODE_NAME = "unirestore"


class Processes(Children):
    """The processes of a measurement; what they write goes to a folder."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, **_environment(), "ROS_LOG_DIR": str(folder / "log")}
        super().__init__(environment, folder)

    def start_node(
        self, namespace: str, camera: str, *parameters: str, command: str = "restore_node"
    ) -> Child:
        """Start `restore_node` of a namespace, or another command's node, fed by a camera's
        topic."""
        words = ["-r", f"__ns:={namespace}", "-r", f"image:={camera}"]
        words += ["-r", f"camera_info:={camera.rpartition('/')[0]}/camera_info"]
        words += [word for parameter in parameters for word in ("-p", parameter)]
        return self.start(command, "-m", "unirestore_ros", command, "--ros-args", *words)

    def start_module(self, module: str, *arguments: str) -> Child:
        """Start `python -m MODULE`, for what is neither."""
        return self.start(module, "-m", module, *arguments)

    def start_role(self, role: str, *arguments: str) -> Child:
        """Start one of `node_roles`."""
        return self.start(role, "-m", "unirestore_ros.evaluate.node_roles", role, *arguments)


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
