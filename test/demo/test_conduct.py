"""Node, recorder and player as processes: what happens when one of them fails."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from unirestore_ros.demo.conduct import Play, child_environment, conduct
from unirestore_ros.demo.errors import DemoError
from unirestore_ros.demo.spool import Entry, Spool, finish, save_frame
from unirestore_ros.engine.bundle import find_bundle


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Three grey frames for the shipped bundle."""
    spool = make_spool(tmp_path / "spool", (480, 360))
    work = tmp_path / "work"
    work.mkdir()
    return Play(spool, find_bundle("tiny"), (), ("segmentation",), work)


def make_spool(folder: Path, size: tuple[int, int]) -> Spool:
    for index in range(3):
        save_frame(folder, index, np.full((size[1], size[0], 3), 100, np.uint8))
    return finish(folder, [Entry(index * 10**8, "grey", False) for index in range(3)])


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
def test_node_that_dies_is_named_with_its_last_words(play: Play) -> None:
    broken = Play(play.spool, play.bundle, ("backend:=nonsense",), play.tasks, play.work)
    with pytest.raises(DemoError, match=r"(?s)the node ended with exit status \d+.*nonsense"):
        conduct(broken)
    assert_no_process_uses(play.work)


@pytest.mark.dds
@pytest.mark.slow
def test_node_that_restores_nothing_is_an_error_with_its_reason(play: Play) -> None:
    disabled = Play(play.spool, play.bundle, ("enabled:=false",), play.tasks, play.work)
    with pytest.raises(DemoError, match=r"restored none of 3 frames \(camera mode"):
        conduct(disabled)
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
