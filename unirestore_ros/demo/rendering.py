"""Making the spool of the synthetic drive: rendered ahead, by as many processes as cores."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

from tqdm import tqdm

from unirestore_ros.demo.errors import DemoError
from unirestore_ros.demo.journal import Entry as JournalEntry
from unirestore_ros.demo.journal import JournalReader
from unirestore_ros.demo.pacing import paced
from unirestore_ros.demo.prepare import check_space
from unirestore_ros.demo.processes import Child, children
from unirestore_ros.demo.spool import Entry, Spool, finish
from unirestore_ros.recordings.scaling import Size
from unirestore_ros.synthetic.programme import STRETCHES

_LOOK_EVERY_S = 0.1
# Each process builds the town for itself: more of them would mostly do that.
_MOST_PROCESSES = 4


def spool_drive(folder: Path, size: Size, rate: float, count: int) -> Spool:
    """Render ``count`` frames of the package's own drive, to be played at ``rate`` a second."""
    if count < len(STRETCHES):
        raise DemoError(
            f"the synthetic drive has {len(STRETCHES)} stretches: --frames {count} is too few"
        )
    check_space(folder.parent, count, size)
    folder.mkdir()
    rows = _rendered(folder, size, count)
    rows.sort(key=lambda row: row["index"])
    due = paced([row["offset_ns"] for row in rows], rate)
    return finish(
        folder, [Entry(at, row["stretch"], True) for at, row in zip(due, rows, strict=True)]
    )


def _rendered(folder: Path, size: Size, count: int) -> list[JournalEntry]:
    """What the renderers' journals say, when all are done; DemoError where one fails."""
    rows: list[JournalEntry] = []
    with (
        children(os.environ, folder) as group,
        tqdm(total=count, desc="rendering", unit="frame", mininterval=0.5) as bar,
    ):
        workers: list[Child] = []
        journals: list[JournalReader] = []
        for number, part in enumerate(shares(count, _processes())):
            path = folder / f"renderer_{number}.jsonl"
            numbers = (count, *size, part.start, part.stop)
            arguments = (str(folder), str(path), *map(str, numbers))
            name = f"renderer {number}"
            workers.append(group.start(name, "-m", "unirestore_ros.demo.renderer", *arguments))
            journals.append(JournalReader(path))
        while True:
            done = all(worker.exit_code() == 0 for worker in workers)
            new = [row for journal in journals for row in journal.new_entries()]
            bar.update(len(new))
            rows += new
            if done:
                return rows
            group.check()
            time.sleep(_LOOK_EVERY_S)


def shares(count: int, processes: int) -> list[range]:
    """Contiguous parts of ``range(count)``, as equal as can be, none empty."""
    ends = [count * number // processes for number in range(processes + 1)]
    return [range(a, b) for a, b in itertools.pairwise(ends) if b > a]


def _processes() -> int:
    return min(_MOST_PROCESSES, len(os.sched_getaffinity(0)))
