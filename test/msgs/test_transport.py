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
    wait_for_calm_ports,
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


def churn(port: Path, seconds: float) -> threading.Thread:
    """Make a port anew again and again, as those who send to a killed process do."""

    def run() -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            beside = port.with_name("beside")
            beside.touch()
            beside.replace(port)
            time.sleep(0.02)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [7002, 7400 + 250 * 3 + 15])
def test_a_start_waits_while_a_killed_processs_port_is_made_anew(
    number: int, tmp_path: Path
) -> None:
    port = tmp_path / f"fastdds_port{number}"
    port.touch()
    churning = churn(port, 1.0)
    assert wait_for_calm_ports(3, tmp_path, limit_s=60)
    assert not churning.is_alive()


def test_it_does_not_wait_for_ever(tmp_path: Path) -> None:
    port = tmp_path / "fastdds_port7002"
    port.touch()
    churning = churn(port, 2.0)
    assert not wait_for_calm_ports(3, tmp_path, limit_s=0.1)
    churning.join()


def test_it_does_not_wait_for_what_is_none_of_its_ports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ports at which somebody listens, other domains', multicast, other files."""
    first = 7400 + 250 * 3
    for number in (first, first + 250 + 11, 7411):
        (tmp_path / f"fastdds_port{number}").touch()
    for name in ("fastdds_0123456789abcdef", f"fastdds_port{first + 13}"):
        (tmp_path / name).touch()
        (tmp_path / f"{name}_el").touch()
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits"))
    assert wait_for_calm_ports(3, tmp_path)
