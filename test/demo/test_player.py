"""When the player publishes, and how fast a node lets it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from unirestore_ros.demo.journal import JournalWriter, read_journal
from unirestore_ros.demo.player import play, slowing

FIVE_HZ = [0, 200_000_000, 400_000_000]


class Camera:
    """Notes when it was asked for a frame; the first takes as long as it is told."""

    def __init__(self, first_takes_s: float = 0.0) -> None:
        self.first_takes_s = first_takes_s
        self.times: list[int] = []
        self.waited = False

    def publish(self, index: int) -> int:
        self.times.append(time.monotonic_ns())
        if index == 0:
            time.sleep(self.first_takes_s)
        return 1000 + index

    def wait_for_acknowledgement(self) -> None:
        self.waited = True


def played(camera: Camera, offsets: list[int], journal: Path, stopped: bool = False) -> list[int]:
    """Nanoseconds after the first at which each frame was published."""
    with JournalWriter(journal) as writer:
        play(camera, offsets, writer, lambda: stopped)
    return [at - camera.times[0] for at in camera.times]


def test_no_frame_comes_before_it_is_due(tmp_path: Path) -> None:
    camera = Camera()
    offsets = [0, 30_000_000, 45_000_000, 90_000_000]
    times = played(camera, offsets, tmp_path / "journal")
    assert all(at >= due - 1_000_000 for at, due in zip(times, offsets, strict=True))
    assert camera.waited
    entries = read_journal(tmp_path / "journal")
    assert entries == [{"index": index, "stamp": 1000 + index} for index in range(4)]


def test_after_a_late_frame_the_spacing_is_kept(tmp_path: Path) -> None:
    camera = Camera(first_takes_s=0.15)
    times = played(camera, [0, 50_000_000, 100_000_000], tmp_path / "journal")
    assert times[1] >= 149_000_000
    assert times[2] - times[1] >= 49_000_000


def test_who_is_stopped_publishes_nothing_more(tmp_path: Path) -> None:
    camera = Camera()
    with JournalWriter(tmp_path / "journal") as writer:
        play(camera, FIVE_HZ, writer, lambda: True)
    assert camera.times == []


@pytest.mark.parametrize(
    ("latencies", "factor"),
    [
        ([], 1.0),
        ([9.0], 1.0),
        ([9.0, 0.1, 0.12], 1.0),
        ([0.1, 0.4, 0.4, 0.4], 2.5),
        ([0.1, 9.0, 9.0, 9.0], 4.0),
    ],
)
def test_rate_falls_where_the_node_is_slower(latencies: list[float], factor: float) -> None:
    assert slowing(FIVE_HZ, latencies) == pytest.approx(factor)


def test_one_frame_has_no_rate() -> None:
    assert slowing([0], [1.0, 1.0]) == 1.0
