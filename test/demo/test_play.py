"""Node, player and recorder: what happens when the node fails, and how fast it is played."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from unirestore_ros.demo.drive import CAMERA, STORAGE, DriveBag
from unirestore_ros.demo.play import Play, child_environment, run_play, slowing
from unirestore_ros.engine.bundle import find_bundle
from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.make import NewFrame, make_bag


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Three grey frames for the shipped bundle."""
    work = tmp_path / "work"
    work.mkdir()
    return Play(make_drive(tmp_path / "drive"), find_bundle("tiny"), (), ("segmentation",), work)


def make_drive(folder: Path) -> DriveBag:
    grey = np.full((360, 480, 3), 100, np.uint8)
    frames = [NewFrame(index * 10**8, grey, None, (480, 360)) for index in range(3)]
    times = make_bag(frames, folder, CAMERA, 10**18, STORAGE)
    return DriveBag(folder, tuple(times), ("grey",) * 3, False)


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
    assert slowing(5.0, latencies) == pytest.approx(factor)


def test_one_frame_has_no_rate() -> None:
    assert slowing(None, [1.0, 1.0]) == 1.0


def test_children_inherit_what_the_user_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_LOG_DIR", "/my/logs")
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    environment = child_environment(tmp_path)
    assert environment["ROS_LOG_DIR"] == "/my/logs"
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET"
    monkeypatch.delenv("ROS_LOG_DIR")
    monkeypatch.delenv("ROS_AUTOMATIC_DISCOVERY_RANGE")
    environment = child_environment(tmp_path)
    assert environment["ROS_LOG_DIR"] == str(tmp_path)
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"


@pytest.mark.dds
def test_node_that_dies_is_named_with_its_last_output(play: Play) -> None:
    broken = Play(play.bag, play.bundle, ("backend:=nonsense",), play.tasks, play.work)
    with pytest.raises(RecordingError, match=r"(?s)the node ended with exit status \d+.*nonsense"):
        run_play(broken)
    assert_no_process_uses(play.work)


@pytest.mark.dds
def test_node_that_restores_nothing_is_an_error_with_its_reason(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough for the node's diagnostics, which come once a second.
    monkeypatch.setattr("unirestore_ros.demo.play._WARM_UP_LIMIT_S", 3.0)
    monkeypatch.setattr("unirestore_ros.demo.play._QUIET_S", 1.0)
    disabled = Play(play.bag, play.bundle, ("enabled:=false",), play.tasks, play.work)
    with pytest.raises(RecordingError, match=r"restored none of 3 frames \(camera mode"):
        run_play(disabled)
    assert_no_process_uses(play.work)


def assert_no_process_uses(folder: Path) -> None:
    """No process is left whose command names the play's folder."""
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        assert str(folder).encode() not in command
