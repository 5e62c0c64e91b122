"""The Fast DDS profile and the variable that names it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from unirestore_ros.msgs import transport
from unirestore_ros.msgs.transport import (
    avoiding_leftover_ports,
    how_to_set_profile,
    profile_path,
    remove_unfinished_ports,
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


LISTENING = """
import os, signal, sys
from unirestore_ros.node.process import ros_node
with ros_node("listening"):
    files = [os.path.realpath(f"/proc/self/fd/{file}") for file in os.listdir("/proc/self/fd")]
    print(*(file for file in files if file.startswith("/dev/shm/fast") and "_port" in file))
    sys.stdout.flush()
    if sys.argv[1] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def ports_of_a_process(end: str) -> set[str]:
    """The locks of ports that a process holds which then ends itself: ``die`` or ``leave``."""
    done = subprocess.run(
        [sys.executable, "-c", LISTENING, end],
        env={**os.environ, "ROS_DOMAIN_ID": str(DOMAIN)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip(), done.stderr
    return set(done.stdout.split())


@pytest.mark.dds
def test_a_start_avoids_the_ports_of_a_process_that_was_killed() -> None:
    killed = ports_of_a_process("die")
    try:
        assert not killed & ports_of_a_process("leave")
    finally:
        for lock in killed:
            Path(lock).unlink(missing_ok=True)
            Path(lock.removesuffix("_el")).unlink(missing_ok=True)


def test_only_what_nobody_holds_is_avoided(tmp_path: Path) -> None:
    first = 7400 + 250 * 3
    names = [f"fastdds_port{number}" for number in (7001, first + 11, first + 13, first + 15)]
    others = [f"fastdds_port{number}" for number in (first, 7411, first + 250 + 11)]
    for name in [*names, *others, "fastdds_0123456789abcdef"]:
        (tmp_path / name).touch()
    with open(tmp_path / f"{names[2]}_el", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with avoiding_leftover_ports(3, tmp_path) as avoided:
            assert set(avoided) == {*names[:2], names[3]}
            with avoiding_leftover_ports(3, tmp_path) as twice:
                assert twice == []
        assert {file.name for file in tmp_path.glob("*_el")} == {f"{names[2]}_el"}


def test_where_too_much_is_left_over_it_is_used_again(tmp_path: Path) -> None:
    for number in range(7411, 7411 + 2 * 41, 2):
        (tmp_path / f"fastrtps_port{number}").touch()
    with avoiding_leftover_ports(0, tmp_path) as avoided:
        assert avoided == []
        assert not list(tmp_path.glob("*_el"))
