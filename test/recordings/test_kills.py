"""`bag restore` killed while it works, and run again: an undisturbed run makes the same bag.

Where the time of the kill is chosen by what the process has done, it is found by looking at its
working folder; the kills between are wherever the process happens to be.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bag_maker import MS, START_NS, BagMaker, street
from kill_and_resume import difference, start

FRAMES = 16
WORK = 25  # milliseconds or so that the miniature takes for a frame
TIMEOUT_S = 120.0
# A segment after each frame, so that a kill finds some.
WORDS = ("--save-every", "0", "--tasks", "segmentation")


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drives") / "drive"
    maker = BagMaker(folder, "mcap")
    with maker.writer:
        for index in range(FRAMES):
            pixels = np.array(street(index))
            pixels[0, 0] = (0, 0, WORK)
            maker.image("/camera/image_raw", START_NS + index * 100 * MS, pixels)
            maker.text("/chatter", START_NS + index * 100 * MS, f"{index}")
    return folder


def kill_when(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> bool:
    """False where the process was done before."""
    end = time.monotonic() + TIMEOUT_S
    while process.poll() is None and not reached():
        assert time.monotonic() < end, "the process does not get that far"
        time.sleep(0.002)
    was_running = process.poll() is None
    process.kill()
    process.wait()
    return was_running


def segments(out: Path) -> int:
    return len(list((out.parent / f".{out.name}.restoring" / "segments").glob("*.segment")))


@pytest.mark.slow
def test_killed_at_any_moment_the_same_bag_comes_out(
    drive: Path, miniature: Path, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole" / "out", tmp_path / "out"
    words = [*WORDS, "--bundle", str(miniature)]
    assert start(drive, whole, words).wait(TIMEOUT_S) == 0
    working = out.parent / f".{out.name}.restoring"
    chance = random.Random(0)
    later = chance.randint(5, FRAMES - 3)
    moments: list[Callable[[], bool]] = [
        lambda: working.exists(),
        lambda: segments(out) >= 1,
        lambda: segments(out) >= later,
        lambda: (working / "out").exists(),  # the bag is being written
    ]
    killed = 0
    for reached in moments:
        killed += kill_when(start(drive, out, words), reached)
        if out.exists():
            assert difference(out, whole) is None, "a bag at OUT is a whole one"
    assert killed >= 2
    assert start(drive, out, words).wait(TIMEOUT_S) == 0
    assert difference(out, whole) is None
    assert not working.exists()
