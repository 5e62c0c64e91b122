"""What the readers of MCAP and sqlite3 files share."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

BAG_SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")
LATEST_NS = 2**63 - 1
LARGEST_MESSAGE = 1 << 30
_DAY_NS = 24 * 3600 * 10**9


class FileDamaged(ValueError):
    """A file of a bag of which nothing can be read; the text goes on after the file's name."""


@dataclasses.dataclass(frozen=True)
class StoredTopic:
    """A topic as one file of a bag has it; empty text where the file does not say."""

    name: str
    kind: str
    """The type, as `sensor_msgs/msg/Image`."""
    messages: int
    qos: str
    """The offered profiles, as YAML."""
    definition_format: str
    """``msg``, ``idl``, or empty."""
    definition: str
    digest: str


class StoredMessage(NamedTuple):
    """A message with the file's own number of its topic."""

    topic: int
    time_ns: int
    data: bytes


def is_bag_file(path: Path) -> bool:
    """Tell whether a path is a file of a bag, by its name."""
    return path.name.endswith(BAG_SUFFIXES) and path.is_file()


def bag_files(folder: Path) -> list[Path]:
    """List the files of a bag in a folder, in natural order: 2 before 10."""
    found = [path for path in folder.iterdir() if is_bag_file(path)]
    return sorted(found, key=lambda path: [_number(part) for part in re.split(r"(\d+)", path.name)])


def _number(part: str) -> tuple[int, str]:
    return (int(part), "") if part.isdecimal() else (0, part)


def recovery_of(path: Path) -> str:
    """Name the command that may find more in a damaged file."""
    if path.name.endswith(BAG_SUFFIXES[1::2]):
        return f"`sqlite3 {path.name} .recover` may find more"
    return f"`mcap recover {path.name}` may find more"


def are_plausible(times_ns: Sequence[int]) -> list[bool]:
    """Say of each time, in the order of recording, whether it can be: a flipped bit puts a message
    days away from both the one before it and the one after it, while a pause is behind or before
    only."""
    if len(times_ns) < 3:
        return [0 <= each <= LATEST_NS for each in times_ns]
    times = np.array(times_ns, np.float64)
    # At the ends, the two nearest stand for before and after.
    before = np.concatenate((times[2:3], times[:-1]))
    after = np.concatenate((times[1:], times[-3:-2]))
    is_far = (abs(times - before) > _DAY_NS) & (abs(times - after) > _DAY_NS)
    good: list[bool] = (~is_far & (times >= 0) & (times < LATEST_NS)).tolist()
    return good
