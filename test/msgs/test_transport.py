"""The Fast DDS profile and the variable that names it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from importlib import metadata
from pathlib import Path

import pytest

from unirestore_ros.msgs import transport
from unirestore_ros.msgs.transport import (
    how_to_set_profile,
    profile_path,
    remove_unfinished_ports,
    wait_for_stable_ports,
    with_image_transport,
)

NEW, OLD = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"


@pytest.mark.parametrize(
    ("distribution", "variable"),
    [("humble", OLD), ("jazzy", OLD), ("kilted", NEW), ("rolling", NEW)],
)
def test_the_variable_is_the_one_that_the_distribution_reads(
    distribution: str, variable: str
) -> None:
    environment = {"ROS_DISTRO": distribution}
    assert with_image_transport(environment) == {**environment, variable: str(profile_path())}
    assert how_to_set_profile(environment) == f"export {variable}={profile_path()}"


@pytest.mark.ros_smoke
@pytest.mark.parametrize(("version", "variable"), [("7.1.6", OLD), ("9.1.2", NEW)])
def test_the_wheels_set_no_distribution(
    version: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: version)
    assert with_image_transport({}) == {variable: str(profile_path())}


@pytest.mark.parametrize(
    "chosen", [{NEW: "mine.xml"}, {OLD: "mine.xml"}, {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}]
)
def test_what_the_user_has_chosen_stays(chosen: dict[str, str]) -> None:
    assert with_image_transport(chosen) == chosen


def test_a_missing_profile_is_said_with_the_places(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path_factory.mktemp("empty")
    monkeypatch.setattr(transport, "share_folders", lambda: iter([empty]))
    with pytest.raises(transport.ProfileMissing, match=str(empty)):
        profile_path()
    assert str(empty) in how_to_set_profile({})


def test_only_ports_that_were_never_finished_are_removed(tmp_path: Path) -> None:
    old = time.time() - 60
    names = ("fastdds_port7413", "fastrtps_port7415", "fastdds_port7417", "fastdds_port7413_el")
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (old, old))
    (tmp_path / "fastdds_port7417").write_bytes(b"in use")
    os.utime(tmp_path / "fastdds_port7417", (old, old))
    (tmp_path / "fastdds_port7419").touch()  # being made just now
    assert set(remove_unfinished_ports(tmp_path)) == set(names[:2])
    assert len(list(tmp_path.iterdir())) == 3
    assert remove_unfinished_ports(tmp_path / "missing") == []


STARTING = """
from unirestore_ros.node.process import ros_node
with ros_node("starting"):
    print("started")
"""
DOMAIN = 97
FIRST_PORT = 7400 + 250 * DOMAIN + 11
"""At this port the domain's first participant receives users' data; the next one at this plus 2."""


@pytest.mark.dds
def test_a_port_that_a_killed_process_left_holds_up_no_start() -> None:
    numbers = [FIRST_PORT + 2 * i for i in range(3)]
    ports = [Path(f"/dev/shm/{name}_port{n}") for name in ("fastdds", "fastrtps") for n in numbers]
    for port in ports:
        port.unlink(missing_ok=True)
        port.touch()
        os.utime(port, (0, 0))
    try:
        done = subprocess.run(
            [sys.executable, "-c", STARTING],
            env={**os.environ, "ROS_DOMAIN_ID": str(DOMAIN)},
            capture_output=True,
            text=True,
            timeout=30,
        )
    finally:
        for port in ports:
            port.unlink(missing_ok=True)
    assert done.stdout == "started\n", done.stderr


@pytest.mark.dds
def test_a_node_starts_once_the_ports_are_stable() -> None:
    port = Path(f"/dev/shm/fastdds_port{FIRST_PORT + 2 * 20}")  # none that the node would open
    is_over = threading.Event()

    def recreate() -> None:
        while not is_over.wait(0.02):
            port.unlink(missing_ok=True)
            port.touch()

    recreating = threading.Thread(target=recreate)
    recreating.start()
    environment = {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN)}
    command = [sys.executable, "-c", STARTING]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as node:
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                node.communicate(timeout=3)
            is_over.set()
            told, _ = node.communicate(timeout=60)
        finally:
            is_over.set()
            recreating.join()
            port.unlink(missing_ok=True)
    assert told == "started\n"


class Sleeper:
    """In place of ``time``: recreates a port in each of the first sleeps, as those do who send to a
    killed process."""

    def __init__(self, port: Path, times: int, is_missing_at_first: bool = False) -> None:
        self.now = 0.0
        self._port, self._left = port, times
        if not is_missing_at_first:
            port.touch()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self._left > 0:
            self._left -= 1
            self._port.unlink(missing_ok=True)
            if self._left % 2 == 0:  # in between it is missing
                self._port.touch()
                os.utime(self._port, ns=(self._left, self._left))  # changes the time of its change


FIRST_PORT_OF_3 = 7400 + 250 * 3


@pytest.mark.parametrize("number", [7002, FIRST_PORT_OF_3 + 15])
@pytest.mark.parametrize("is_missing_at_first", [False, True])
def test_a_start_waits_while_a_killed_processs_port_is_recreated(
    number: int, is_missing_at_first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"fastdds_port{FIRST_PORT_OF_3 + 11}").touch()  # of a process that lives
    (tmp_path / f"fastdds_port{FIRST_PORT_OF_3 + 11}_el").touch()
    time_there = Sleeper(tmp_path / f"fastdds_port{number}", 40, is_missing_at_first)
    monkeypatch.setattr(transport, "time", time_there)
    assert wait_for_stable_ports(3, tmp_path)
    assert 1.8 - 0.1 < time_there.now < 1.8 + 0.1  # 40 sleeps of 0.03 s, then 0.6 s unchanged


def test_it_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time_there = Sleeper(tmp_path / "fastdds_port7002", 10**6)
    monkeypatch.setattr(transport, "time", time_there)
    assert not wait_for_stable_ports(3, tmp_path, limit_s=5.0)
    assert 5.0 < time_there.now < 5.1


def test_ports_of_others_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other domains', multicast, other files."""
    for number in (FIRST_PORT_OF_3, FIRST_PORT_OF_3 + 250 + 11, 7411):
        (tmp_path / f"fastdds_port{number}").touch()
    (tmp_path / "fastdds_0123456789abcdef").touch()
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits"))
    assert wait_for_stable_ports(3, tmp_path)
