"""Fast DDS: the profile that delivers images, which variable names it, and what killed processes
leave of its shared memory."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from unirestore_ros.files import share_folders

PROFILE = Path("config") / "fastdds.xml"
NEW_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"
OLD_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
PROFILE_VARIABLES = (NEW_VARIABLE, OLD_VARIABLE)
BUILTIN_TRANSPORTS = "FASTDDS_BUILTIN_TRANSPORTS"
# These come with Fast DDS 2, which reads the old name only. Fast DDS 3 (Kilted and later) reads
# both and warns of the old one.
_WITH_FAST_DDS_2 = ("humble", "iron", "jazzy")
_FIRST_RCLPY_WITH_FAST_DDS_3 = 8
_SHARED_MEMORY = Path("/dev/shm")
# fastrtps in Fast DDS 2.
_PORT = re.compile(r"fast(dds|rtps)_port(\d+)")
_UNFINISHED_AFTER_S = 5.0
# Ports of Fast DDS's shared memory by their numbers: those of discovery, and, as in RTPS, those of
# users' data, which each domain has apart.
_DISCOVERY_PORTS = range(7000, 7400)
_FIRST_PORT, _PORTS_PER_DOMAIN, _FIRST_UNICAST = 7400, 250, 10
# Ports are stable when they have not changed for so many seconds: longer than the time between two
# announcements in config/fastdds.xml, each of which may recreate one. Where none is unlocked, a
# glance is enough. The longest wait is above the profile's lease of 3 s, below Fast DDS's of 20.
_LOOK_EVERY_S, _GLANCE_S, _STABLE_S, _LONGEST_WAIT_S = 0.03, 0.15, 0.6, 6.0


class ProfileMissing(RuntimeError):
    """The package's profile is not installed."""


def profile_path() -> Path:
    """The package's own profile; ProfileMissing, with the places, where there is none."""
    places = [folder / PROFILE for folder in share_folders()]
    for place in places:
        if place.is_file():
            return place
    raise ProfileMissing(
        f"the package's {PROFILE}, without which images get lost, is missing from"
        f" {' and '.join(str(place.parent) for place in places)}: install the package again"
    )


def profile_variable(environment: Mapping[str, str] = os.environ) -> str:
    """The environment variable in which this ROS distribution's Fast DDS looks for a profile."""
    distribution = environment.get("ROS_DISTRO")
    if distribution:
        return OLD_VARIABLE if distribution in _WITH_FAST_DDS_2 else NEW_VARIABLE
    return OLD_VARIABLE if _is_rclpy_before_kilted() else NEW_VARIABLE


def chosen_variable(environment: Mapping[str, str] = os.environ) -> str | None:
    """The variable by which the user has chosen a profile; None where he has not."""
    return next((name for name in PROFILE_VARIABLES if environment.get(name)), None)


def has_transport(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment chooses a profile or a transport already."""
    return chosen_variable(environment) is not None or bool(environment.get(BUILTIN_TRANSPORTS))


def with_image_transport(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """A copy of the environment with the profile set, unless a transport is chosen already."""
    if has_transport(environment):
        return dict(environment)
    return {**environment, profile_variable(environment): str(profile_path())}


def how_to_set_profile(environment: Mapping[str, str] = os.environ) -> str:
    """The command for the user's shell, or why there is none."""
    try:
        return f"export {profile_variable(environment)}={profile_path()}"
    except ProfileMissing as error:
        return str(error)


def _is_rclpy_before_kilted() -> bool:
    """Whether the wheels of rclpy are older than Kilted's; they set no ROS_DISTRO."""
    try:
        major = metadata.version("ros-rclpy").partition(".")[0]
    except metadata.PackageNotFoundError:
        return False
    return int(major) < _FIRST_RCLPY_WITH_FAST_DDS_3


def remove_unfinished_ports(folder: Path = _SHARED_MEMORY) -> list[str]:
    """Remove ports of Fast DDS's shared memory that a process was killed in the middle of making;
    returns their names. Whoever opens such a port waits for ever for it to get a size.

    Fast DDS gives it one within milliseconds; files of others stay, as the system wants it.
    """
    removed = []
    for file, _ in _numbered_ports(folder):
        with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
            status = file.stat()
            is_old = time.time() - status.st_mtime > _UNFINISHED_AFTER_S
            if status.st_size == 0 and is_old:
                file.unlink()
                removed.append(file.name)
    return removed


def wait_for_stable_ports(
    domain: int, folder: Path = _SHARED_MEMORY, limit_s: float = _LONGEST_WAIT_S
) -> bool:
    """Wait until no process recreates the ports of killed processes in Fast DDS's shared memory, in
    a ROS domain; False if they still change after ``limit_s`` seconds.

    From a second after a process was killed until its lease ends, each message to it recreates its
    port. A process that opens this port meanwhile, to listen, may never receive anything.
    """
    if not any(_ports(domain, folder)):
        return True
    began = since = time.monotonic()
    before = _unlocked_ports(domain, folder)
    have_changed = False
    while True:
        time.sleep(_LOOK_EVERY_S)
        now, current = time.monotonic(), _unlocked_ports(domain, folder)
        if current != before:
            before, since, have_changed = current, now, True
        # A port that is recreated is missing for a moment, so that one look is not enough.
        if now - since >= (_STABLE_S if before or have_changed else _GLANCE_S):
            return True
        if now - began > limit_s:
            return False


def _ports(domain: int, folder: Path) -> Iterator[Path]:
    """List the ports which a process in the domain may open to listen at."""
    first = _FIRST_PORT + _PORTS_PER_DOMAIN * domain
    users = range(first + _FIRST_UNICAST, first + _PORTS_PER_DOMAIN)
    for file, number in _numbered_ports(folder):
        if number in users or number in _DISCOVERY_PORTS:
            yield file


def _numbered_ports(folder: Path) -> Iterator[tuple[Path, int]]:
    """List all ports with their numbers."""
    for file in folder.glob("fast*_port*"):
        if match := _PORT.fullmatch(file.name):
            yield file, int(match[2])


def _unlocked_ports(domain: int, folder: Path) -> set[tuple[str, int, int]]:
    """Return name, inode and time of the last change of each port without a lock file beside it,
    which a process that listens has."""
    found = set()
    for file in _ports(domain, folder):
        with contextlib.suppress(FileNotFoundError):  # gone meanwhile
            if not file.with_name(f"{file.name}_el").exists():
                status = file.stat()
                found.add((file.name, status.st_ino, status.st_ctime_ns))
    return found
