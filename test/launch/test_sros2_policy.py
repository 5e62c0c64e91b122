"""The SROS2 policy allows each node what it has when it runs, and nothing besides."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import ros_fixtures
from rclpy.context import Context
from rclpy.node import Node
from ros_process import NodeProcess
from ros_station import Station, camera_info, image
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

context = ros_fixtures.context
start_node = ros_fixtures.start_node

Names = dict[tuple[str, str], set[str]]
"""Topics or services by node and by what it does with them: as in the policy's attributes."""
KINDS = {
    "publish": "get_publisher_names_and_types_by_node",
    "subscribe": "get_subscriber_names_and_types_by_node",
    "reply": "get_service_names_and_types_by_node",
    "request": "get_client_names_and_types_by_node",
}
NODES = ("unirestore", "driver_display", "segmentation_head", "detection_head")
# Allowed and not there in this run, with the reason.
NOT_HERE = {
    "/clock": "with use_sim_time only",
    "/image/compressed": "with input_transport compressed only",
    "/unirestore/image/compressed": "the display's, with input_transport compressed only",
    "/detection_head/detections": "with vision_msgs only",
    "/bond": "with bondpy and autostart false only",
}


def allowed(policy: Path) -> Names:
    """Read the policy; names with the namespace and the node's name put in, as SROS2 does it."""
    names: Names = {}
    for profile in ElementTree.parse(policy).getroot().iter("profile"):
        node = profile.attrib["node"]
        assert profile.attrib["ns"] == "/"
        for group in profile:
            (kind,) = group.attrib
            assert group.attrib[kind] == "ALLOW"
            for item in group:
                name = (item.text or "").replace("~", f"/{node}")
                names.setdefault((node, kind), set()).add("/" + name.removeprefix("/"))
    return names


@pytest.fixture(scope="module")
def station(start_node: Callable[..., NodeProcess], context: Context) -> Iterator[Station]:
    """Subscribes to what makes the nodes subscribe themselves."""
    restorer = start_node("bundle:=tiny")
    for command in NODES[1:]:
        page = ("page:=false",) if command == "driver_display" else ()
        start_node(*page, namespace=restorer.namespace, command=command)
    station = Station(context, restorer.namespace)
    for topic, kind in (
        ("driver_display/image", Image),
        ("segmentation_head/labels", Image),
        ("detection_head/image", Image),
        ("unirestore/image/compressed", CompressedImage),
    ):
        station.node.create_subscription(kind, f"{station.namespace}/{topic}", lambda _: None, 1)
    yield station
    station.close()


def found(station: Station, wanted: Names) -> Names:
    """What the nodes have had while the camera sent, until all that is wanted has been seen."""
    camera = station.node.create_publisher(Image, f"{station.namespace}/image", 1)
    info = station.node.create_publisher(CameraInfo, f"{station.namespace}/camera_info", 1)
    seen: Names = defaultdict(set)
    end = time.monotonic() + 60
    while time.monotonic() < end and any(
        names - seen[key] - set(NOT_HERE) for key, names in wanted.items()
    ):
        camera.publish(image(np.zeros((48, 64, 3), np.uint8), "bgr8"))
        info.publish(camera_info(64, 48))
        station.pause(0.5)
        present = set(station.node.get_node_names_and_namespaces())
        for node in NODES:
            if (node, station.namespace) in present:
                for kind, method in KINDS.items():
                    seen[node, kind] |= names_of(station.node, method, node, station.namespace)
    return seen


def names_of(asking: Node, method: str, node: str, namespace: str) -> set[str]:
    listed: Any = getattr(asking, method)(node, namespace)
    return {name.removeprefix(namespace) for name, _ in listed}


@pytest.mark.dds
def test_each_node_may_do_what_it_does_and_nothing_else(station: Station, repository: Path) -> None:
    policy = allowed(repository / "config" / "sros2" / "unirestore.policy.xml")
    seen = found(station, policy)
    for node in NODES:
        for kind in KINDS:
            may, does = policy.get((node, kind), set()), seen[node, kind]
            assert does - may == set(), f"{node} may not {kind} what it does"
            needless = {
                name for name in may - does - set(NOT_HERE) if "get_type_description" not in name
            }
            assert needless == set(), f"{node} need not {kind} these"
