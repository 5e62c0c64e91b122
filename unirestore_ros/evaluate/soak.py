"""`make soak`: node and display under random faults for as long as wanted, and a table of it.

    python -m unirestore_ros.evaluate.soak --minutes 60 --out out/soak

A camera sends 30 frames a second to a real node with its engine process; a display and other
subscribers come and go. One fault of soak_faults.py follows another, in random order; each is
survived if restored frames come again, in the display too, without help but for a killed process,
which is started again as a launch file's respawn does. No fault is planted in the first and in
the last minute, which are compared. With --once each fault comes once, in their order, for the
fault table.

Writes soak.json and soak.md, and returns 1 where anything went wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus

import unirestore_ros
from unirestore_ros.engine.bundle import find_bundle
from unirestore_ros.evaluate.dds_measures import Processes, family, memory_mb
from unirestore_ros.evaluate.engine_faults import EngineFaults
from unirestore_ros.evaluate.soak_faults import FAULTS, Context, Fault
from unirestore_ros.evaluate.soak_report import Outcome, Result, Sample, describe, tables
from unirestore_ros.evaluate.soak_station import DISPLAY_SIZE, Station, station
from unirestore_ros.files import written_beside
from unirestore_ros.msgs.transport import profile_path, profile_variable
from unirestore_ros.recordings.processes import Child

NAMESPACE = "/soak"
RATE_HZ = 30.0
RESPAWN_S = 2.0
RECOVERY_LIMIT_S = 120.0
"""The engine's restart may wait 60 s, and loads after that."""
TOLD_WITHIN_S = 1.0
"""From the end of an engine process to the ERROR."""
_RESTORED_IN_A_ROW = 3
_SAMPLE_S = 1.0
# The mode changes at most once a second, so that a stall right after a return is answered later.
_PAUSE_S = 1.2
_CALM_S = 60.0
# After a fault of the engine the next restart waits twice as long, until it ran for 60 s.
_ENGINE_REST_S = 65.0


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
            shared_memory_mb=_size_mb(segments),
        )


def _segments(pid: int) -> set[Path]:
    """Files of shared memory that a process has mapped for Fast DDS."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {Path(line.split(maxsplit=5)[5]) for line in lines if "/dev/shm/fastdds_" in line}


def _size_mb(files: Iterable[Path]) -> float:
    """What files of shared memory hold that are still there, in MB of 10^6 bytes."""
    total = 0
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_blocks * 512
    return total * 1e-6


class Vigil:
    """Watches the engine process during a fault: when it ends, and when the node says so."""

    def __init__(self, graph: Graph) -> None:
        self.ended_at: float | None = None
        """Seconds of the steady clock."""
        self._pid = 0
        with contextlib.suppress(RuntimeError):  # there is none, which is an end that is not seen
            self._pid = graph.engine_pid()
        self._began = time.monotonic()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vigil")
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
            if not _is_running(self._pid):
                self.ended_at = time.monotonic()
                return


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_restored(station: Station, since: float, limit_s: float) -> float | None:
    """Wait until restored frames come in a row; returns how long after ``since``, or None."""
    while time.monotonic() < since + limit_s:
        last = station.watch.arrivals[-_RESTORED_IN_A_ROW:]
        if len(last) == _RESTORED_IN_A_ROW and all(
            arrival.kind == "restored" and arrival.at > since for arrival in last
        ):
            return last[0].at - since
        time.sleep(0.02)
    return None


def wait_for_display(station: Station, limit_s: float) -> str:
    """Wait until the display says that it shows a restored frame; returns what it showed last."""
    status = station.watch.wait_for(
        station.display, lambda status: _shown(status) == "restored", limit_s
    )
    return "nothing" if status is None else _shown(status)


def _shown(status: DiagnosticStatus) -> str:
    return next((v.value for v in status.values if v.key == "status"), "nothing")


def plant(fault: Fault, context: Context, graph: Graph) -> Outcome:
    """Plant one fault, and wait until restored frames come again."""
    context.failures.clear()
    watch, began = context.station.watch, time.monotonic()
    with contextlib.closing(Vigil(graph)) as vigil:
        try:
            fault.act(context)
        except (OSError, RuntimeError) as error:
            context.failures.append(f"{type(error).__name__}: {error}")
        recovery = wait_for_restored(context.station, time.monotonic(), RECOVERY_LIMIT_S)
    if recovery is None:
        said = watch.diagnostics.get(context.station.restorer)
        context.failures.append(f"no restored frames: {said.message if said else 'no diagnostics'}")
        graph.kill_node()
        wait_for_restored(context.station, time.monotonic(), RECOVERY_LIMIT_S)
    elif fault.group == "engine" and not (fault.may_survive and vigil.ended_at is None):
        context.failures += vigil.complaints(watch.losses)
    graph.revive()
    if (shown := wait_for_display(context.station, RECOVERY_LIMIT_S)) != "restored":
        context.failures.append(f"the display shows: {shown}")
    end = time.monotonic()
    times = [a.at for a in watch.arrivals if began - 1.0 <= a.at <= end]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    return Outcome(
        fault=fault,
        began=began,
        ended=end,
        longest_gap_s=max(gaps, default=end - began),
        recovery_s=recovery,
        failures=tuple(context.failures),
    )


def random_faults(seed: int) -> Iterator[Fault]:
    """Faults in random order, without end; those of the engine not too soon after each other."""
    choose = random.Random(seed)
    engine_from = 0.0
    while True:
        now = time.monotonic()
        kinds = [f for f in FAULTS if f.group != "engine" or now >= engine_from]
        fault = choose.choice(kinds)
        yield fault
        if fault.group == "engine":
            engine_from = time.monotonic() + _ENGINE_REST_S


def run(options: argparse.Namespace, folder: Path) -> Result:
    faults = EngineFaults(folder / "path")
    bundle = folder / "bundle"
    shutil.copytree(find_bundle(options.bundle), bundle)
    with _environment(faults), station(NAMESPACE, RATE_HZ) as there:
        with Processes(folder) as group:
            graph = Graph(group, bundle, faults.folder, options.parameter)
            started = time.monotonic()
            if wait_for_restored(there, started, RECOVERY_LIMIT_S) is None:
                raise SystemExit(f"soak: no restored frame\n{graph.node.tail()}")
            # It may find the camera later than the node does, and has nothing to say until then.
            if wait_for_display(there, RECOVERY_LIMIT_S) != "restored":
                raise SystemExit(f"soak: no restored frame on the display\n{graph.display.tail()}")
            began = time.monotonic()
            with contextlib.closing(Sampler(graph)) as sampler:
                context = Context(graph, there, faults, random.Random(options.seed))
                outcomes = _soak(options, context, graph)
        return Result(
            began=began,
            calm_s=options.calm_s,
            outcomes=tuple(outcomes),
            arrivals=tuple(there.watch.arrivals),
            frames_sent=there.camera.sent,
            drops=dict(there.watch.drops),
            problems=tuple(there.watch.problems),
            crashes=tuple(graph.crashes),
            samples=tuple(sampler.samples),
            tracebacks=tracebacks(folder),
            shared_memory_after_mb=_size_mb(sampler.segments),
            displayed=there.watch.displayed,
        )


def _soak(options: argparse.Namespace, context: Context, graph: Graph) -> list[Outcome]:
    """Plant faults for the time that is given; or each once."""
    outcomes: list[Outcome] = []
    time.sleep(options.calm_s)
    end = time.monotonic() + options.minutes * 60 - 2 * options.calm_s
    once = [f for f in FAULTS if not options.only or any(text in f.name for text in options.only)]
    for fault in once if options.once else random_faults(options.seed):
        if not options.once and time.monotonic() > end:
            break
        outcomes.append(plant(fault, context, graph))
        sys.stdout.write(f"{describe(outcomes[-1])}\n")
        sys.stdout.flush()
        if options.once and fault.group == "engine":
            # Otherwise each restart would wait twice as long as the one before.
            next(f for f in FAULTS if f.name == "node: cleaned up").act(context)
            wait_for_restored(context.station, time.monotonic(), RECOVERY_LIMIT_S)
        time.sleep(_PAUSE_S if options.once else context.random.uniform(_PAUSE_S, 3.0))
    time.sleep(options.calm_s)
    return outcomes


@contextlib.contextmanager
def _environment(faults: EngineFaults) -> Iterator[None]:
    """Variables for the processes and this one: a domain of its own, the profile, the faults."""
    before = dict(os.environ)
    path = os.pathsep.join(filter(None, [str(faults.folder), before.get("PYTHONPATH", "")]))
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 101))
    os.environ.update(
        {
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            profile_variable(): str(profile_path()),
            "PYTHONPATH": path,
        }
    )
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def tracebacks(folder: Path) -> int:
    """Count tracebacks in the logs of node and display, but those of planted exceptions."""
    count = 0
    for log in folder.glob("*.log"):
        before = ""
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith(("Traceback", "Fatal Python error")):
                count += "engine process: ends" not in before
            before = line
    return count


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    options.calm_s = min(_CALM_S, options.minutes * 60 / 4)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        result = run(options, Path(folder))
        if result.failed:
            shutil.copytree(folder, options.out / "logs", dirs_exist_ok=True)
    meta = {
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "version": unirestore_ros.__version__,
        "minutes": options.minutes,
        "seed": options.seed,
    }
    with written_beside(options.out / "soak.json") as beside:
        beside.write_text(json.dumps({"meta": meta, **result.summary()}, indent=1) + "\n")
    text = tables(result)
    with written_beside(options.out / "soak.md") as beside:
        beside.write_text(text)
    sys.stdout.write(text)
    return 1 if result.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="(%(default)s)")
    parser.add_argument("--once", action="store_true", help="each fault once, in their order")
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="those whose name holds TEXT"
    )
    parser.add_argument("--bundle", default="tiny", help="a bundle's folder or name (tiny)")
    parser.add_argument("--seed", type=int, default=0, help="of the faults' order (0)")
    parser.add_argument(
        "--parameter", action="append", default=[], metavar="NAME:=VALUE", help="of the node"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for soak.json and soak.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
