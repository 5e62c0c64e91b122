"""Damage small bags at seeded places, and run every tool on them.

    TQDM_DISABLE=1 python test/support/bag_mutations.py --count 3000 --seed 1

A tool passes where it ends in time, with a result or with an error of one line, and says something
whenever less came out of the damaged bag than of the whole one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from bag_maker import MS, START_NS, BagMaker, street
from ros_miniature import write_miniature

from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.bag_command import main as bag
from unirestore_ros.recordings.compare import REPORT
from unirestore_ros.recordings.play import Pace, Player, make_playlist
from unirestore_ros.recordings.sources import open_source
from unirestore_ros.recordings.storage import open_reader

FRAMES = 4
LIMIT_S = 30
RESTORE_EVERY = 10
COMPRESSIONS = ("", "storage", "message", "file")


class Hang(Exception):
    """A tool took longer than the limit."""


class Refused(Exception):
    """A command ended with status 1; what it said was logged."""


class Words(logging.Handler):
    """Keeps what was warned of, and what errors were reported."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # A type that no machine has; it has nothing to do with the damage.
        if not record.getMessage().startswith("/steering is not played"):
            self.lines.append(record.getMessage())
            self.errors += self.lines[-1:] if record.levelno >= logging.ERROR else []


def make_bag(folder: Path, storage: str, compression: str) -> Path:
    """A colour camera, a JPEG camera and a depth image, with CameraInfo and an unknown type."""
    maker = BagMaker(folder, storage, compression=compression)
    with maker.writer:
        maker.text("/robot_description", START_NS, "<robot/>")
        for index in range(FRAMES):
            now = START_NS + index * 100 * MS
            maker.image("/front/depth", now, street(index)[..., 0].astype("uint16"), "16UC1")
            maker.image("/front/image_raw", now, street(index))
            maker.info("/front/camera_info", now + MS, now - 3 * MS)
            maker.jpeg("/rear/image_raw/compressed", now + 2 * MS, street(index + 9))
            maker.steering("/steering", now + 50 * MS, index / 10)
    return folder


def mutate(folder: Path, dice: random.Random) -> str:
    """Damage one file of a bag; returns how."""
    storage = next(path for path in sorted(folder.iterdir()) if path.name != "metadata.yaml")
    kind = dice.choice(
        ["cut", "cut", "bits", "bits", "bytes", "zeros", "repeat", "remove", "metadata", "number"]
    )
    if kind != "metadata" and dice.random() < 0.2:
        (folder / "metadata.yaml").unlink()
    path = folder / "metadata.yaml" if kind == "metadata" else storage
    content = bytearray(path.read_bytes())
    place = dice.randrange(len(content))
    # Half of the damage is near the ends, where headers, indexes and summaries are.
    if dice.random() < 0.5:
        near = dice.randrange(min(len(content), 3000))
        place = near if dice.random() < 0.5 else len(content) - 1 - near
    if kind == "cut":
        del content[place:]
    elif kind in ("bits", "metadata"):
        for _ in range(dice.choice([1, 1, 4, 32])):
            at = min(len(content) - 1, place + dice.randrange(64))
            content[at] ^= 1 << dice.randrange(8)
    elif kind == "bytes":
        size = dice.choice([1, 8, 512])
        content[place : place + size] = dice.randbytes(size)
    elif kind == "zeros":
        size = dice.choice([4, 512, 4096])
        content[place : place + size] = bytes(len(content[place : place + size]))
    elif kind == "repeat":
        content[place:place] = content[place : place + dice.choice([1, 512])]
    elif kind == "remove":
        del content[place : place + dice.choice([1, 512])]
    else:  # a length or time that is huge
        content[place : place + 8] = dice.choice([b"\xff" * 8, b"\0" * 7 + b"\x7f"])
    path.write_bytes(content)
    return f"{kind} at {place} of {path.name}"


class _Publisher:
    def __init__(self, sent: list[bytes]) -> None:
        self._sent = sent

    def publish(self, data: bytes) -> None:
        self._sent.append(data)

    def wait_for_all_acked(self, limit: object) -> None:
        pass


class SilentNode:
    """Stands for a ROS node: publishers that keep what is published."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def create_publisher(self, *_: object) -> _Publisher:
        return _Publisher(self.sent)


def read_all(folder: Path, work: Path) -> int:
    with open_reader(folder) as reader:
        return sum(1 for _ in reader.messages())


def play(folder: Path, work: Path) -> int:
    node: Any = SilentNode()
    with open_reader(folder) as reader:
        playlist = make_playlist(reader, node)
        Player(node, playlist, Pace(rate=1e15, restamp=True)).play()
    return len(node.sent)


def read_source(folder: Path, work: Path) -> int:
    return sum(1 for _ in open_source(folder).frames())


def compare(folder: Path, work: Path) -> int:
    """Returns the frames of all cameras that the report counts."""
    if bag(["compare", str(folder), "--out", str(work / "compared")]) != 0:
        raise Refused
    report = json.loads((work / "compared" / REPORT).read_text())
    return sum(camera["frames"] for camera in report["cameras"])


def restore(folder: Path, work: Path) -> int:
    """Returns the messages of the restored bag, copied and restored ones."""
    out = work / "restored"
    if bag(["restore", "--bundle", str(work.parent / "bundle"), str(folder), str(out)]) != 0:
        raise Refused
    with open_reader(out) as reader:
        return reader.message_count


TOOLS: dict[str, Callable[[Path, Path], int]] = {
    "read": read_all,
    "play": play,
    "source": read_source,
    "compare": compare,
    "restore": restore,
}


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    def expire(number: int, frame: FrameType | None) -> None:
        raise Hang(f"over {seconds} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def judge(tool: str, folder: Path, work: Path, whole: int) -> tuple[str, str]:
    """Run a tool on a bag; returns what became of it, and for a failure its details."""
    words = Words()
    logger = logging.getLogger("unirestore_ros")
    logger.addHandler(words)
    try:
        with limited(LIMIT_S):
            count = TOOLS[tool](folder, work)
    except (RecordingError, Refused) as error:
        return _judge_refusal([str(error)] if isinstance(error, RecordingError) else words.errors)
    except Hang:
        return "failed", traceback.format_exc()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "failed", traceback.format_exc()
    finally:
        logger.removeHandler(words)
    if count < whole and not words.lines:
        return "failed", f"{count} of {whole} without a word"
    if words.errors:
        return "failed", f"a result in spite of an error: {words.errors}"
    return ("warned" if words.lines else "unharmed"), ""


def _judge_refusal(errors: list[str]) -> tuple[str, str]:
    """A bag that is refused is refused in exactly one line."""
    if len(errors) == 1 and errors[0].strip() and "\n" not in errors[0].strip():
        return "refused", ""
    return "failed", f"not one line: {errors}"


def run(
    work: Path, count: int, seed: int, tools: list[str], limit_s: float = math.inf
) -> tuple[Counter[str], list[str]]:
    """Damage ``count`` bags, or what the time allows, and run the tools; returns what became of
    them, and the failures."""
    until = time.monotonic() + limit_s
    logging.getLogger("unirestore_ros").propagate = False
    write_miniature(work / "bundle")
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    bases: list[tuple[str, Path, dict[str, int]]] = []
    for storage in ("mcap", "sqlite3"):
        for compression in COMPRESSIONS[: 4 if storage == "mcap" else 1]:
            name = f"{storage}_{compression or 'plain'}"
            base = make_bag(work / name / "drive", storage, compression)
            whole = {}
            for tool in tools:
                shutil.rmtree(work / "case", ignore_errors=True)
                (work / "case").mkdir()
                whole[tool] = TOOLS[tool](base, work / "case")
            bases.append((name, base, whole))
    for number in range(count):
        if time.monotonic() > until:
            break
        outcomes["bags"] += 1
        dice = random.Random(f"{seed} {number}")
        name, base, whole = dice.choice(bases)
        shutil.rmtree(work / "case", ignore_errors=True)
        (work / "case").mkdir()
        damaged = work / "case" / "drive"
        shutil.copytree(base, damaged)
        how = mutate(damaged, dice)
        # The network takes longer than all the rest.
        for tool in tools:
            if tool == "restore" and number % RESTORE_EVERY:
                continue
            outcome, details = judge(tool, damaged, work / "case", whole[tool])
            outcomes[f"{tool} {outcome}"] += 1
            if outcome == "failed":
                failures.append(f"mutation {number} of {name}, {how}, {tool}: {details}")
    logging.getLogger("unirestore_ros").propagate = True
    return outcomes, failures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(None):
        found, failed = run(
            Path(place), arguments.count, arguments.seed, list(TOOLS), arguments.minutes * 60
        )
    for key, value in sorted(found.items()):
        sys.stdout.write(f"{key:20}{value:8}\n")
    sys.stdout.write("\n".join(failed[:20]) + f"\n{len(failed)} failures\n")
    sys.exit(1 if failed else 0)
