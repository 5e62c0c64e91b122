"""ROS 2: is it there, which middleware, and does that deliver images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

from unirestore_ros.doctor.finding import ERROR, NOTE, OK, Finding, ProbeError, probe
from unirestore_ros.msgs.transport import BUILTIN_TRANSPORTS, chosen_variable, how_to_set_profile

_INSTALLED = Path("/opt/ros")
_LEAST_SEGMENT_BYTES = 16 << 20
_ROS_CODE = """
import json, rclpy, rclpy.utilities
import diagnostic_msgs.msg, lifecycle_msgs.msg, sensor_msgs.msg, std_srvs.srv
print(json.dumps(rclpy.utilities.get_rmw_implementation_identifier()))
"""


def check_ros(environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Distribution, middleware and its transport of images."""
    try:
        middleware = probe(_ROS_CODE)
    except ProbeError as error:
        return [Finding("ROS 2", ERROR, f"rclpy does not work: {error}", _how_to_get_ros())]
    distribution = environment.get("ROS_DISTRO")
    found = f"{distribution}, sourced" if distribution else f"rclpy {_wheel_version()} from PyPI"
    return [
        Finding("ROS 2", OK, found),
        Finding("middleware", OK, middleware),
        check_transport(middleware, environment),
    ]


def check_transport(middleware: str, environment: Mapping[str, str]) -> Finding:
    """Whether processes started from this shell lose large images."""
    check = "DDS transport"
    if not middleware.startswith("rmw_fastrtps"):
        return Finding(check, OK, "config/fastdds.xml is not for this middleware")
    if environment.get(BUILTIN_TRANSPORTS, "").startswith("LARGE_DATA"):
        return Finding(check, OK, "FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA")
    variable = chosen_variable(environment)
    if variable is None:
        return Finding(
            check,
            NOTE,
            "no Fast DDS profile is set: best-effort images over 0.5 MB get lost",
            f"for every camera and consumer: {how_to_set_profile(environment)}",
        )
    return _check_profile(check, variable, environment)


def _check_profile(check: str, variable: str, environment: Mapping[str, str]) -> Finding:
    path = Path(environment[variable])
    try:
        sizes = segment_sizes(path)
    except (OSError, ElementTree.ParseError) as error:
        return Finding(
            check,
            ERROR,
            f"{variable}={path} cannot be read: {error}",
            how_to_set_profile(environment),
        )
    if max(sizes, default=0) >= _LEAST_SEGMENT_BYTES:
        return Finding(check, OK, f"{variable}={path}")
    return Finding(
        check,
        NOTE,
        f"{path} has no shared-memory segment of {_LEAST_SEGMENT_BYTES >> 20} MiB for images",
        how_to_set_profile(environment),
    )


def segment_sizes(path: Path) -> list[int]:
    """Shared-memory segments in a Fast DDS profile, in bytes; OSError or ParseError."""
    elements = ElementTree.parse(path).iter()
    texts = [each.text or "" for each in elements if each.tag.rpartition("}")[2] == "segment_size"]
    return [int(text) for text in texts if text.strip().isdigit()]


def _how_to_get_ros() -> str:
    present = sorted(path.parent.name for path in _INSTALLED.glob("*/setup.bash"))
    if present:
        return f"source /opt/ros/{present[-1]}/setup.bash"
    return "install ROS 2, or its wheels: pip install 'unirestore_ros[ros]'"


def _wheel_version() -> str:
    try:
        return metadata.version("ros-rclpy")
    except metadata.PackageNotFoundError:
        return "of unknown version"
