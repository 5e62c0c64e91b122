"""The processes of a soak: node, display and peers, and what watches them meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from unirestore_ros.evaluate.dds_measures import Processes, family, is_running, memory_mb
from unirestore_ros.evaluate.soak_report import Sample
from unirestore_ros.evaluate.soak_station import DISPLAY_SIZE
from unirestore_ros.recordings.processes import Child

NAMESPACE = "/soak"
RESPAWN_S = 2.0
RECOVERY_LIMIT_S = 120.0
"""The engine's restart may wait 60 s, and loads after that."""
TOLD_WITHIN_S = 1.0
"""From the end of an engine process to the ERROR."""
_SAMPLE_S = 1.0


class Graph:
    """The processes around the station, started again when one of them was killed."""

    def __init__(self, group: Processes, bundle: Path, faults: Path, more: list[str]) -> None:
        self.bundle = bundle
        self.crashes: list[str] = []
        self._group = group
        self._faults = faults
        self._more = more
        self._peers: dict[int, Child] = {}
        self._starts = 0
        self.node = self._start_node()
        self.display = self._start_display()

    def _start(self, command: str, *parameters: str) -> Child:
        self._starts += 1
        words = ["-r", f"__ns:={NAMESPACE}"]
        words += [word for parameter in parameters for word in ("-p", parameter)]
        name = f"{command}_{self._starts}"
        return self._group.start(name, "-m", "unirestore_ros", command, "--ros-args", *words)

    def _start_node(self) -> Child:
        return self._start("restore_node", f"bundle:={self.bundle}", *self._more)

    def _start_display(self) -> Child:
        return self._start(
            "driver_display",
            "page_port:=0",
            "view:=restored",
            f"output_width:={DISPLAY_SIZE[0]}",
            f"output_height:={DISPLAY_SIZE[1]}",
        )

    def node_pid(self) -> int:
        return self.node.pid

    def engine_pid(self) -> int:
        """Process of the engine, which may be starting again just now."""
        end = time.monotonic() + RECOVERY_LIMIT_S
        while time.monotonic() < end:
            with contextlib.suppress(FileNotFoundError):
                children = family(self.node.pid)[1:]
                if children:
                    return children[0]
            time.sleep(0.05)
        raise RuntimeError(f"the node has no engine process for {RECOVERY_LIMIT_S:g} s")

    def display_pid(self) -> int:
        return self.display.pid

    def kill_node(self) -> None:
        self._kill(self.node)
        time.sleep(RESPAWN_S)
        self.node = self._start_node()

    def kill_display(self) -> None:
        self._kill(self.display)
        time.sleep(RESPAWN_S)
        self.display = self._start_display()

    def revive(self) -> None:
        """Start again what has ended by itself, which is a failure of the soak."""
        if (code := self.node.exit_code()) is not None:
            self.crashes.append(f"node: exit {code}\n{self.node.tail()}")
            self.node = self._start_node()
        if (code := self.display.exit_code()) is not None:
            self.crashes.append(f"display: exit {code}\n{self.display.tail()}")
            self.display = self._start_display()

    def listener(self) -> int:
        self._starts += 1
        names = ("image", "segmentation/features", "detection/features")
        child = self._group.start(
            f"listener_{self._starts}",
            "-m",
            "unirestore_ros.evaluate.node_roles",
            "listener",
            str(self._group.folder / "arrivals.npz"),
            *(f"{NAMESPACE}/unirestore/{name}:Image" for name in names),
        )
        self._peers[child.pid] = child
        return child.pid

    def namesake(self) -> int:
        child = self._start_node()
        self._peers[child.pid] = child
        return child.pid

    def drop(self, pid: int) -> None:
        self._kill(self._peers.pop(pid))

    def _kill(self, child: Child) -> None:
        os.kill(child.pid, signal.SIGKILL)
        child.end()


class Sampler:
    """Looks at memory, threads and descriptors of the processes once a second."""

    def __init__(self, graph: Graph) -> None:
        self.samples: list[Sample] = []
        self.segments: set[Path] = set()
        """Files of shared memory that any of them had mapped."""
        self._graph = graph
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler")
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            # A process may end while it is looked at.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, KeyError):
                self.samples.append(self._look())

    def _look(self) -> Sample:
        pids = [*family(self._graph.node.pid)[:2], self._graph.display.pid]
        names = ("node", "engine", "display") if len(pids) == 3 else ("node", "display")
        processes = dict(zip(names, pids, strict=True))
        segments = set().union(*map(_segments, pids))
        self.segments |= segments
        memory = {name: memory_mb(pid) for name, pid in processes.items()}
        return Sample(
            at=time.monotonic(),
            pids=processes,
            memory_mb={name: of_process["own"] for name, of_process in memory.items()},
            resident_mb={name: of_process["resident"] for name, of_process in memory.items()},
            threads={n: len(os.listdir(f"/proc/{p}/task")) for n, p in processes.items()},
            descriptors={n: len(os.listdir(f"/proc/{p}/fd")) for n, p in processes.items()},
            shared_memory_mb=size_mb(segments),
        )


def _segments(pid: int) -> set[Path]:
    """Files of shared memory that a process has mapped for Fast DDS."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {Path(line.split(maxsplit=5)[5]) for line in lines if "/dev/shm/fastdds_" in line}


def size_mb(files: Iterable[Path]) -> float:
    """What files of shared memory hold that are still there, in MB of 10^6 bytes."""
    total = 0
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_blocks * 512
    return total * 1e-6


class EngineWatch:
    """Watches the engine process during a fault: when it ends, and when the node says so."""

    def __init__(self, graph: Graph) -> None:
        self.ended_at: float | None = None
        """Seconds of the steady clock."""
        self._pid = 0
        with contextlib.suppress(RuntimeError):  # there is none, which is an end that is not seen
            self._pid = graph.engine_pid()
        self._began = time.monotonic()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine watch")
        self._thread.start()

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()

    def complaints(self, losses: Sequence[float]) -> list[str]:
        """Say what was wrong with an end that was wanted; ``losses``: when the node said that it
        had lost an engine."""
        if self.ended_at is None:
            return ["it had no effect: the engine process is the same"]
        said = next((at for at in losses if at >= self._began), None)
        if said is None:
            return ["no ERROR with the cause in diagnostics"]
        late_s = said - self.ended_at
        if late_s > TOLD_WITHIN_S:
            return [f"the ERROR with the cause came {late_s:.1f} s after the engine had ended"]
        return []

    def _run(self) -> None:
        while self._pid and not self._is_over.wait(0.02):
            if not is_running(self._pid):
                self.ended_at = time.monotonic()
                return
