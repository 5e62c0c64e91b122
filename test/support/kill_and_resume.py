"""`bag restore` killed at random moments and run again, compared with an undisturbed run.

    python test/support/kill_and_resume.py BAG [--kills 10] [OPTIONS OF bag restore ...]

What the test in test_kills.py does with a few chosen moments, with many random ones.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bag_maker import messages, metadata


def start(bag: Path, out: Path, words: Sequence[str]) -> subprocess.Popen[bytes]:
    """`bag restore` as a process of its own, silent."""
    command = [sys.executable, "-m", "unirestore_ros", "bag", "restore", str(bag), str(out)]
    silent = subprocess.DEVNULL
    return subprocess.Popen([*command, *words], stdout=silent, stderr=silent)


def difference(out: Path, whole: Path) -> str | None:
    """What two bags differ in: topic, type, QoS, time or bytes of a message, or the metadata."""
    for number, (one, other) in enumerate(zip(messages(out), messages(whole), strict=True)):
        for name, left, right in zip(
            ("topic", "type", "QoS", "time", "bytes"), one, other, strict=True
        ):
            if left != right:
                return f"{name} of message {number}"
    return None if metadata(out) == metadata(whole) else "metadata"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bag", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments, words = parser.parse_known_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="kills_") as name:
        whole, out = Path(name) / "whole" / "out", Path(name) / "out"
        begun = time.monotonic()
        assert start(arguments.bag, whole, words).wait() == 0
        undisturbed = time.monotonic() - begun
        print(f"undisturbed: {undisturbed:.1f} s, {len(messages(whole))} messages")
        for number in range(1, arguments.kills + 1):
            after = chance.uniform(0.0, undisturbed)
            process = start(arguments.bag, out, words)
            time.sleep(after)
            process.kill()
            was_killed = process.wait() < 0
            kept = len(list((Path(name) / ".out.restoring").glob("segments/*.segment")))
            assert start(arguments.bag, out, words).wait() == 0
            different = difference(out, whole)
            print(
                f"{number:2}: {'killed' if was_killed else 'over'} after {after:5.2f} s, {kept:2}"
                f" segments kept; then {different or 'equal'}",
                flush=True,
            )
            if different:
                return 1
            shutil.rmtree(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
