"""ROS 2: is it there, does its middleware deliver images, and the cameras on its graph."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from unirestore_ros.doctor.finding import ERROR, NOTE, OK, Finding, ProbeError, probe
from unirestore_ros.msgs.transport import (
    BUILTIN_TRANSPORTS,
    OLD_VARIABLE,
    chosen_variable,
    how_to_set_profile,
    profile_variable,
)

Size = tuple[int, int]
_INSTALLED = Path("/opt/ros")
_MIN_SEGMENT_BYTES = 16 << 20
_TRANSPORT, _GRAPH, _CAMERA = "DDS transport", "ROS graph", "camera"
_ROS_CODE = """
import json, rclpy, rclpy.utilities
import diagnostic_msgs.msg, lifecycle_msgs.msg, sensor_msgs.msg, std_srvs.srv
print(json.dumps(rclpy.utilities.get_rmw_implementation_identifier()))
"""
_IMPORT_CODE = "import numpy, cv2, onnxruntime, safetensors, rclpy; print(0)"
_GRAPH_CODE = """
import dataclasses, json, sys
from unirestore_ros.doctor.graph import observe
print(json.dumps(dataclasses.asdict(observe(float(sys.argv[1])))))
"""


def check_ros(environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Check distribution, middleware, and its transport of images."""
    try:
        middleware = probe(_ROS_CODE)
    except ProbeError as error:
        present = sorted(path.parent.name for path in _INSTALLED.glob("*/setup.bash"))
        advice = "install ROS 2, or its wheels: pip install 'unirestore_ros[ros]'"
        if present:
            advice = f"source /opt/ros/{present[-1]}/setup.bash"
        return [Finding("ROS 2", ERROR, f"rclpy does not work: {error}", advice)]
    distribution = environment.get("ROS_DISTRO")
    found = f"{distribution}, sourced" if distribution else f"rclpy {_wheel_version()} from PyPI"
    return [
        Finding("ROS 2", OK, found),
        Finding("middleware", OK, middleware),
        check_transport(middleware, environment),
    ]


def check_executables(environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Check the Python that `ros2 run` starts, which is the one that colcon ran in."""
    check = "executables"
    prefixes = [each for each in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if each]
    scripts = [Path(prefix) / "lib" / "unirestore_ros" / "restore_node" for prefix in prefixes]
    script = next((path for path in scripts if path.is_file()), None)
    if script is None:
        return []
    python, own = _interpreter(script), sys.executable
    if virtual := environment.get("VIRTUAL_ENV"):
        # Started by `ros2 run`, this runs in the wrong Python itself.
        own = own if Path(own).is_relative_to(virtual) else str(Path(virtual) / "bin" / "python3")
    if Path(python).parent == Path(own).parent:
        return [Finding(check, OK, f"{script.parent} start {python}")]
    advice = f"build inside the environment: {own} -m colcon build --packages-select unirestore_ros"
    try:
        probe(_IMPORT_CODE, python=python)
    except ProbeError as error:
        found = f"{script.parent} start {python}, which lacks what is installed here: {error}"
        return [Finding(check, ERROR, found, advice)]
    return [Finding(check, NOTE, f"{script.parent} start {python}, not {own}", advice)]


def _interpreter(script: Path) -> str:
    """Read the Python that a script's first line names."""
    with script.open("rb") as stream:
        words = stream.readline(512).decode(errors="replace").removeprefix("#!").split()
    if words and Path(words[0]).name == "env":
        return shutil.which(words[-1]) or words[-1]
    return words[0] if words else ""


def _wheel_version() -> str:
    try:
        return metadata.version("ros-rclpy")
    except metadata.PackageNotFoundError:
        return "of unknown version"


def check_transport(middleware: str, environment: Mapping[str, str]) -> Finding:
    """Check whether processes started from this shell lose large images."""
    if not middleware.startswith("rmw_fastrtps"):
        return Finding(_TRANSPORT, OK, "config/fastdds.xml is not for this middleware")
    if environment.get(BUILTIN_TRANSPORTS, "").startswith("LARGE_DATA"):
        return Finding(_TRANSPORT, OK, "FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA")
    variable, advice = chosen_variable(environment), how_to_set_profile(environment)
    if variable is None:
        found = "no Fast DDS profile is set: best-effort images over 0.5 MB get lost"
        return Finding(_TRANSPORT, NOTE, found, f"for every camera and consumer: {advice}")
    if profile_variable(environment) == OLD_VARIABLE and not environment.get(OLD_VARIABLE):
        return Finding(
            _TRANSPORT, NOTE, f"this ROS distribution's Fast DDS does not read {variable}", advice
        )
    path = Path(environment[variable])
    try:
        sizes = segment_sizes(path)
    except (OSError, ElementTree.ParseError) as error:
        return Finding(_TRANSPORT, ERROR, f"{variable}={path} cannot be read: {error}", advice)
    if max(sizes, default=0) >= _MIN_SEGMENT_BYTES:
        return Finding(_TRANSPORT, OK, f"{variable}={path}")
    found = f"{path} has no shared-memory segment of {_MIN_SEGMENT_BYTES >> 20} MiB for images"
    return Finding(_TRANSPORT, NOTE, found, advice)


def segment_sizes(path: Path) -> list[int]:
    """Read the sizes in bytes of shared-memory segments in a Fast DDS profile.

    Raises OSError or ParseError.
    """
    elements = ElementTree.parse(path).iter()
    texts = [each.text or "" for each in elements if each.tag.rpartition("}")[2] == "segment_size"]
    return [int(text) for text in texts if text.strip().isdigit()]


def check_graph(seconds: float, environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Receive from the cameras for some seconds, and look for QoS that keeps nodes apart."""
    try:
        graph = probe(_GRAPH_CODE, str(seconds))
    except ProbeError as error:
        return [Finding(_GRAPH, NOTE, f"cannot be looked at: {error}", "see the errors above")]
    qos = [
        Finding(
            "QoS",
            NOTE,
            f"{one['topic']}: {one['subscriber']} never receives from {one['publisher']}:"
            f" {one['reason'].removeprefix('ERROR:').strip(' ;')}",
            "make the subscriber ask for no more than the publisher offers (restore_node:"
            " input_reliability, output_reliability)",
        )
        for one in graph["mismatches"]
    ]
    found = f"{graph['nodes']} other nodes in domain {environment.get('ROS_DOMAIN_ID') or '0'}"
    if not graph["cameras"]:
        advice = "start the camera driver, in the same ROS_DOMAIN_ID and with the same middleware"
        return [Finding(_GRAPH, NOTE, f"{found}; no topic of images", advice), *qos]
    cameras = [check_camera(camera, seconds) for camera in graph["cameras"]]
    return [Finding(_GRAPH, OK, found), *cameras, *qos]


def check_camera(camera: Mapping[str, Any], seconds: float) -> Finding:
    """Check what came on one topic, which has the fields of ``graph.CameraTopic``."""
    topic = f"{camera['topic']} of {', '.join(camera['publishers'])}"
    if not camera["measured"]:
        return Finding(_CAMERA, OK, f"{topic}: this package's, not subscribed")
    if camera["problem"]:
        advice = "the driver sends broken messages"
        return Finding(_CAMERA, NOTE, f"{topic}: {camera['problem']}", advice)
    if not camera["frames"]:
        advice = (
            "it sends nothing, or its images are lost on the way: see DDS transport above, for the"
            " camera's process too"
        )
        return Finding(_CAMERA, NOTE, f"{topic}: no frame in {seconds:g} s", advice)
    rate = "one frame" if camera["hz"] is None else f"{camera['hz']:.1f} Hz"
    found = f"{topic}: {rate}, {camera['encoding'] or 'no encoding'}"
    width, height = camera["width"], camera["height"]
    if width and height:
        found = f"{found}, {width}x{height}"
    if camera["kind"].endswith("/CompressedImage"):
        found = f"{found}; for input_transport:=compressed"
    # Not before OpenCV has been found to work: this imports it.
    from unirestore_ros.engine.working_size import frame_refusal

    if problem := camera["unsupported"] or frame_refusal((width, height)):
        return Finding(_CAMERA, NOTE, found, f"it would pass through unrestored: {problem}")
    return Finding(_CAMERA, OK, found)
