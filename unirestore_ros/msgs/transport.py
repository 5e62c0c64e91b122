"""Fast DDS: the profile that delivers images, which variable names it, and what killed processes
leave of its shared memory."""

from __future__ import annotations

import contextlib
import fcntl
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
# Fast DDS tries a hundred ports. With more left over than this, they are used again.
_MOST_AVOIDED = 40


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
    for file in folder.glob("fast*_port*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
            status = file.stat()
            is_old = time.time() - status.st_mtime > _UNFINISHED_AFTER_S
            if _PORT.fullmatch(file.name) and status.st_size == 0 and is_old:
                file.unlink()
                removed.append(file.name)
    return removed


@contextlib.contextmanager
def avoiding_leftover_ports(domain: int, folder: Path = _SHARED_MEMORY) -> Iterator[list[str]]:
    """A block in which Fast DDS opens other ports in shared memory, for a ROS domain, than those
    which killed processes have left; yields the names of these.

    Those who sent to the killed process clear its port away, and make it anew, for seconds after
    its end. A process that opens the same port meanwhile may hear nothing for as long as it lives.
    So the locks of such ports, which a living process would hold, are held here.
    """
    first = _FIRST_PORT + _PORTS_PER_DOMAIN * domain
    users = range(first + _FIRST_UNICAST, first + _PORTS_PER_DOMAIN)
    with contextlib.ExitStack() as held:
        avoided = []
        for file in sorted(folder.glob("fast*_port*")):
            match = _PORT.fullmatch(file.name)
            number = int(match[2]) if match else 0
            is_open_to_us = number in _DISCOVERY_PORTS or number in users
            if is_open_to_us and _hold(file.with_name(f"{file.name}_el"), held):
                avoided.append(file.name)
        if len(avoided) > _MOST_AVOIDED:
            held.close()
            avoided = []
        yield avoided


def _hold(lock: Path, held: contextlib.ExitStack) -> bool:
    """Take the lock of a port, to be removed by ``held``; False where somebody has it."""
    try:
        descriptor = os.open(lock, os.O_CREAT | os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError:  # another user's
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    held.callback(os.close, descriptor)
    held.callback(lock.unlink, missing_ok=True)  # before it is let go, so that nobody finds it free
    return True
