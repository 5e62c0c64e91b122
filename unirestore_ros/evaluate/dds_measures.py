"""What the measures over DDS have in common: processes, rates, percentiles, and the JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import unirestore_ros
from unirestore_ros.engine import BundleError
from unirestore_ros.files import written_beside
from unirestore_ros.msgs.rates import mean_rate
from unirestore_ros.msgs.transport import profile_path, profile_variable
from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.processes import Child, Children

NODE_NAME = "unirestore"
NAMESPACE = "/bench"
CAMERA = f"{NAMESPACE}/image"
RATE_HZ = 30.0
# The first seconds are those of discovery and of memory that is taken for the first time.
SETTLE_S = 5.0


class Processes(Children):
    """The processes of a measurement; what they write goes to a folder."""

    def __init__(self, folder: Path, **variables: str) -> None:
        """``variables``: of the environment, beside those of every measurement."""
        environment = {**os.environ, **_environment(), "ROS_LOG_DIR": str(folder / "log")}
        super().__init__({**environment, **variables}, folder)

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
    """Read the resident memory of a process, in MB of 10^6 bytes: all, and what is its own."""
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = dict(re.findall(r"(VmRSS|RssAnon):\s+(\d+) kB", status))
    return {
        "resident": int(kilobytes["VmRSS"]) * 1.024e-3,
        "own": int(kilobytes["RssAnon"]) * 1.024e-3,
    }


def family(pid: int) -> list[int]:
    """List a process and its children: `restore_node` and its engine process."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    return [pid, *(int(word) for path in children for word in path.read_text().split())]


def is_running(pid: int) -> bool:
    """Tell whether a process runs: one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def resident_together_mb(pids: Iterable[int]) -> float:
    """Measure the memory that processes hold together, in MB of 10^6 bytes: what is each one's own,
    and pages of files and shared memory once, however many of them have mapped these."""
    own, shared = 0, dict[str, int]()
    for pid in pids:
        for where, kilobytes in _mappings(pid):
            anonymous = kilobytes["Anonymous"]
            own += anonymous
            shared[where] = max(shared.get(where, 0), kilobytes["Rss"] - anonymous)
    return (own + sum(shared.values())) * 1.024e-3


def _mappings(pid: int) -> Iterator[tuple[str, dict[str, int]]]:
    """Read where each mapping of a process lies in which file, and its figures in kB."""
    text = Path(f"/proc/{pid}/smaps").read_text(errors="replace")
    for block in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.MULTILINE)[1:]:
        _, _, offset, device, inode, *_ = block.split(maxsplit=5)
        figures = {name: int(kb) for name, kb in re.findall(r"(\w+): +(\d+) kB", block)}
        yield f"{device} {inode} {offset}", figures


def has_loaded(pid: int, library: str) -> bool:
    """Tell whether a process has mapped a file with that in its name."""
    return library in Path(f"/proc/{pid}/maps").read_text()


def _environment() -> dict[str, str]:
    """The profile with which images arrive, and glibc's thresholds for processes but the node."""
    return {
        profile_variable(): str(profile_path()),
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
        "ROS_DOMAIN_ID": os.environ.get("ROS_DOMAIN_ID", str(1 + os.getpid() % 101)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }


def settled(seen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Keep the rows (stamp, arrival, ...), in ns, that arrived after the first seconds."""
    return seen[seen[:, 1] > seen[0, 1] + SETTLE_S * 1e9] if len(seen) else seen


def latency(seen: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the time from stamp to arrival (N,), in ms, after the first seconds."""
    kept = settled(seen)
    return np.asarray((kept[:, 1] - kept[:, 0]) * 1e-6, np.float64)


def rate(seen: NDArray[np.int64]) -> float:
    """Count arrivals a second, after the first seconds."""
    return round(mean_rate(settled(seen)[:, 1]) or 0.0, 2)


def percentiles(values: NDArray[np.float64]) -> dict[str, float]:
    median, p99 = np.percentile(values, (50, 99))
    return {"median": round(float(median), 2), "p99": round(float(p99), 2)}


Samples = Sequence[tuple[float, Mapping[str, float]]]
"""Seconds since the beginning, and memory by kind."""


def growth(samples: Samples, seconds: float) -> dict[str, float]:
    """Compute the growth of each kind of memory between 1/5 of the time and its end."""

    def mean(kind: str, begin: float, end: float) -> float:
        chosen = [kinds[kind] for at, kinds in samples if begin <= at / seconds <= end]
        # A short run may have no sample just then: the nearest one stands for it.
        _, nearest = min(samples, key=lambda sample: abs(sample[0] / seconds - begin))
        return float(np.mean(chosen or [nearest[kind]]))

    return {
        kind: round(mean(kind, 0.97, 1.0) - mean(kind, 0.20, 0.23), 2) for kind in samples[-1][1]
    }


def sample_memory(group: Processes, pid: int, seconds: float) -> dict[str, dict[str, float]]:
    """Let the time pass, and sample a process's memory each second: its last value and growth."""
    samples: list[tuple[float, Mapping[str, float]]] = []
    begun = time.monotonic()
    while (elapsed := time.monotonic() - begun) < seconds:
        group.wait(1.0)
        samples.append((elapsed, memory_mb(pid)))
    return {"memory_mb": rounded(samples[-1][1]), "memory_growth_mb": growth(samples, seconds)}


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {kind: round(value, 1) for kind, value in values.items()}


Measure = Callable[[Processes, argparse.Namespace], dict[str, Any]]
Measures = Mapping[str, tuple[Measure, str, float]]
"""By name: the function, the size of the camera's frames, and the seconds, where none are given."""


def measure_parser(about: str, measures: Iterable[str]) -> argparse.ArgumentParser:
    """Make the parser of what every measure takes; ``about`` is a module's docstring."""
    description, _, details = about.partition("\n")
    parser = argparse.ArgumentParser(
        description=description,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=tuple(measures))
    parser.add_argument("--bundle", default="tiny", help="a bundle's folder or name (tiny)")
    parser.add_argument("--backend", default="auto", help="the node's (auto)")
    parser.add_argument("--size", help="WxH of the camera's frames")
    parser.add_argument("--seconds", type=float, help="how long to measure")
    parser.add_argument("--out", type=Path, required=True, help="the JSON to write")
    return parser


def run_measure(options: argparse.Namespace, measures: Measures) -> int:
    """Measure, write and print; return 1, and print why, where a process ended by itself or the
    bundle does not run here."""
    measure, size, seconds = measures[options.what]
    options.size = (options.size or size).split("x")
    options.seconds = options.seconds or seconds
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as group:
        try:
            row = measure(group, options)
        except (RecordingError, BundleError) as error:
            sys.stderr.write(f"{error}\n")
            return 1
    result = {"meta": {**_meta(), "load_before": load}, "rows": [{"what": options.what, **row}]}
    with written_beside(options.out) as beside:
        beside.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(json.dumps(row, indent=1) + "\n")
    return 0


def _meta() -> dict[str, Any]:
    return {
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "ros": os.environ.get("ROS_DISTRO", "from PyPI"),
        "version": unirestore_ros.__version__,
    }
