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
import bisect
import contextlib
import itertools
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus

import unirestore_ros
from unirestore_ros.engine.bundle import find_bundle
from unirestore_ros.evaluate.dds_measures import Processes
from unirestore_ros.evaluate.engine_faults import EngineFaults
from unirestore_ros.evaluate.soak_context import Context
from unirestore_ros.evaluate.soak_faults import FAULTS, Fault
from unirestore_ros.evaluate.soak_processes import (
    NAMESPACE,
    RECOVERY_LIMIT_S,
    EngineWatch,
    Graph,
    Sampler,
    size_mb,
)
from unirestore_ros.evaluate.soak_report import Outcome, Result, describe, tables
from unirestore_ros.evaluate.soak_station import Station, station
from unirestore_ros.files import written_beside
from unirestore_ros.msgs.transport import profile_path, profile_variable

RATE_HZ = 30.0
_RESTORED_IN_A_ROW = 3
# How long a frame is under way from the camera to its arrival, restored.
_UNDER_WAY_S = 0.2
# The mode changes at most once a second: what follows sooner shows less of it.
_PAUSE_S = 1.2
_CALM_S = 60.0
# After a fault of the engine the next restart waits twice as long, until it ran for 60 s.
_ENGINE_REST_S = 65.0


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
    with contextlib.closing(EngineWatch(graph)) as engine:
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
    elif fault.group == "engine" and not (fault.may_survive and engine.ended_at is None):
        context.failures += engine.complaints(watch.losses)
    graph.revive()
    if (shown := wait_for_display(context.station, RECOVERY_LIMIT_S)) != "restored":
        context.failures.append(f"the display shows: {shown}")
    end = time.monotonic()
    times = [a.at for a in watch.arrivals if began - 1.0 <= a.at <= end]
    gap = longest_gap(times) or (began, end)
    return Outcome(
        fault=fault,
        began=began,
        ended=end,
        longest_gap_s=gap[1] - gap[0],
        camera_gap_s=camera_pause(context.station.camera.sent_at, gap),
        recovery_s=recovery,
        failures=tuple(context.failures),
    )


def longest_gap(times: Sequence[float]) -> tuple[float, float] | None:
    """Return start and end of the longest gap between successive times; None if there is none."""
    return max(itertools.pairwise(times), key=lambda pair: pair[1] - pair[0], default=None)


def camera_pause(sent: Sequence[float], gap: tuple[float, float]) -> float:
    """Return the camera's longest pause that reaches into a gap of the image, in seconds: one that
    ended before the frame under way at the gap's beginning was sent does not. 0 if there is none.

    ``sent``: when the camera sent its frames, in seconds of the steady clock, as ``gap``.
    """
    first = bisect.bisect_left(sent, gap[0] - _UNDER_WAY_S)
    last = bisect.bisect_right(sent, gap[1])
    pauses = [b - a for a, b in itertools.pairwise(sent[max(first - 1, 0) : last + 1])]
    return max(pauses, default=0.0)


def random_faults(faults: Sequence[Fault], seed: int) -> Iterator[Fault]:
    """Faults in random order, without end; those of the engine not too soon after each other."""
    choose = random.Random(seed)
    engine_from = 0.0
    while True:
        if all(fault.group == "engine" for fault in faults):
            time.sleep(max(engine_from - time.monotonic(), 0.0))
        now = time.monotonic()
        fault = choose.choice([f for f in faults if f.group != "engine" or now >= engine_from])
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
            shared_memory_after_mb=size_mb(sampler.segments),
            displayed=there.watch.displayed,
        )


def _soak(options: argparse.Namespace, context: Context, graph: Graph) -> list[Outcome]:
    """Plant faults for the time that is given; or each once."""
    outcomes: list[Outcome] = []
    time.sleep(options.calm_s)
    end = time.monotonic() + options.minutes * 60 - 2 * options.calm_s
    for fault in options.faults if options.once else random_faults(options.faults, options.seed):
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
    parser = _parser()
    options = parser.parse_args(argv)
    texts = options.only or [""]
    options.faults = [fault for fault in FAULTS if any(text in fault.name for text in texts)]
    if not options.faults:
        parser.error(f"--only: no fault's name holds {' or '.join(texts)}")
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
