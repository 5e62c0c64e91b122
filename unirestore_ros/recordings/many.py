"""Restore many bags, a bag a task, here or on Ray: failed tasks tried again, one table at the end.

A task is a process that runs `bag restore IN OUT`: what it has done survives its death, so that the
next try goes on where it stopped, and a crash in it is nobody else's.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unirestore_ros.files import written_beside
from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.job import Options
from unirestore_ros.signals import death_with_parent
from unirestore_ros.tables import text_table

# Exit status of a command that has reported what is wrong: another try would fail alike.
_REFUSED = 1
_LAST_LINES = 3

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Fleet:
    """Where the tasks run, and how often."""

    jobs: int = 1
    ray: str | None = None
    cpus: int = 1
    gpus: float = 0.0
    retries: int = 2


@dataclasses.dataclass(frozen=True)
class Task:
    """One bag: its path, where its result goes, and the command's options."""

    source: Path
    out: Path
    words: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one bag."""

    source: str
    out: str
    status: str
    """``restored``, ``refused`` or ``failed``."""
    tries: int | None
    """None where Ray does not count them."""
    summary: dict[str, Any] | None
    message: str

    @property
    def row(self) -> tuple[str, ...]:
        counts = self.summary or {}
        figures = [str(counts.get(key, "-")) for key in ("frames", "restored", "seconds")]
        return (Path(self.source).name, self.status, str(self.tries or "-"), *figures)


class TaskDied(RuntimeError):
    """A task's process ended without saying why; the text has its last lines."""


def restore_many(
    bags: Sequence[Path], out: Path, options: Options, fleet: Fleet, report: Path | None
) -> int:
    """Restore all and print a table; returns the exit status, 0 where every bag was restored."""
    if fleet.ray is None and options.threads == 0:
        # Each task would take all cores; the results are the same bits with any number.
        options = dataclasses.replace(options, threads=max(1, (os.cpu_count() or 1) // fleet.jobs))
    tasks = make_tasks(bags, out, options)
    out.mkdir(parents=True, exist_ok=True)
    run = run_on_ray if fleet.ray is not None else run_here
    outcomes = []
    with tqdm(total=len(tasks), desc="bags", unit="bag") as bar:
        for outcome in run(tasks, fleet):
            outcomes.append(outcome)
            _log.info("%s: %s %s", outcome.source, outcome.status, outcome.message)
            bar.update()
    outcomes.sort(key=lambda outcome: outcome.source)
    if report is not None:
        with written_beside(report) as beside:
            rows = [dataclasses.asdict(outcome) for outcome in outcomes]
            beside.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(f"\n{table(outcomes)}\n")
    return 0 if all(outcome.status == "restored" for outcome in outcomes) else 1


def make_tasks(bags: Sequence[Path], out: Path, options: Options) -> list[Task]:
    """Make a task of each bag; RecordingError where two results would have one name."""
    names = [bag.resolve().name for bag in bags]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RecordingError(f"two bags are called {twice[0]}: their results would have one name")
    words = options.words()
    return [
        Task(bag.resolve(), out.resolve() / name, words)
        for bag, name in zip(bags, names, strict=True)
    ]


def run_here(tasks: Sequence[Task], fleet: Fleet) -> Iterator[Outcome]:
    """Run ``fleet.jobs`` tasks at a time; outcomes as they come."""
    with ThreadPoolExecutor(fleet.jobs) as pool:
        futures = [pool.submit(_tried, task, fleet.retries) for task in tasks]
        for future in as_completed(futures):
            yield future.result()


def run_on_ray(tasks: Sequence[Task], fleet: Fleet) -> Iterator[Outcome]:
    """Run as many tasks at a time as the cluster takes; RecordingError where there is no Ray."""
    try:
        import ray
    except ModuleNotFoundError:
        raise RecordingError("--ray needs Ray: pip install 'unirestore_ros[ray]'") from None
    # A Ray that this starts tells its makers nothing, unless the user wants it to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=fleet.ray, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise RecordingError(f"--ray {fleet.ray}: {error}") from error
    remote: Callable[..., Any] = (
        ray.remote(run_task)
        .options(
            num_cpus=fleet.cpus,
            num_gpus=fleet.gpus,
            max_retries=fleet.retries,
            retry_exceptions=[TaskDied],
        )
        .remote
    )
    try:
        waiting = {remote(task): task for task in tasks}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            task = waiting.pop(done)
            try:
                yield dataclasses.replace(ray.get(done), tries=None)
            except ray.exceptions.RayError as error:
                yield _failed(task, fleet.retries + 1, str(error).splitlines()[-1])
    finally:
        ray.shutdown()


def run_task(task: Task) -> Outcome:
    """Run one bag's command to its end; TaskDied where it dies, whose next try goes on."""
    with tempfile.TemporaryDirectory(prefix="unirestore_bag_") as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "unirestore_ros", "bag", "restore"]
        result = subprocess.run(
            [*command, str(task.source), str(task.out), *task.words, "--report", str(report)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "TQDM_DISABLE": "1"},
            preexec_fn=death_with_parent(),
            check=False,
        )
        last = " | ".join(result.stdout.strip().splitlines()[-_LAST_LINES:])
        if result.returncode == 0:
            summary = json.loads(report.read_text(encoding="utf-8"))
            return Outcome(str(task.source), str(task.out), "restored", 1, summary, "")
    if result.returncode == _REFUSED:
        return Outcome(str(task.source), str(task.out), "refused", 1, None, last)
    raise TaskDied(f"exit status {result.returncode}: {last}")


def table(outcomes: Sequence[Outcome]) -> str:
    head = ("bag", "status", "tries", "frames", "restored", "seconds")
    lines = [text_table(head, [outcome.row for outcome in outcomes])]
    reasons = [f"{Path(o.source).name}: {o.message}" for o in outcomes if o.message]
    return "\n".join([*lines, *reasons])


def _tried(task: Task, retries: int) -> Outcome:
    for number in range(1, retries + 2):
        try:
            return dataclasses.replace(run_task(task), tries=number)
        except TaskDied as error:
            message = str(error)
            _log.warning("%s: try %d: %s", task.source, number, message)
    return _failed(task, retries + 1, message)


def _failed(task: Task, tries: int, message: str) -> Outcome:
    return Outcome(str(task.source), str(task.out), "failed", tries, None, message)
