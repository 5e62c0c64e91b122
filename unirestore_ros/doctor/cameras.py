"""Cameras on the ROS graph: their rate and encoding, whether a bundle takes them, QoS that keeps
publishers and subscribers apart."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

from unirestore_ros.doctor.finding import NOTE, OK, Finding, ProbeError, probe
from unirestore_ros.msgs.encodings import ENCODINGS

Size = tuple[int, int]
_OBSERVE = """
import dataclasses, json, sys
from unirestore_ros.doctor.graph import observe
print(json.dumps(dataclasses.asdict(observe(float(sys.argv[1])))))
"""
_CAMERA, _QOS, _GRAPH = "camera", "QoS", "ROS graph"


def check_graph(
    seconds: float, sizes: Collection[Size], environment: Mapping[str, str] = os.environ
) -> list[Finding]:
    """Listen for ``seconds``; ``sizes``: (width, height) that the bundles here take."""
    try:
        graph = probe(_OBSERVE, str(seconds))
    except ProbeError as error:
        return [Finding(_GRAPH, NOTE, f"cannot be looked at: {error}", "see the errors above")]
    domain = environment.get("ROS_DOMAIN_ID") or "0"
    found = f"{graph['nodes']} other nodes in domain {domain}"
    if not graph["cameras"]:
        advice = "start the camera driver, in the same ROS_DOMAIN_ID and with the same middleware"
        return [Finding(_GRAPH, NOTE, f"{found}; no topic of images", advice), *_qos(graph)]
    cameras = [check_camera(camera, sizes, seconds) for camera in graph["cameras"]]
    return [Finding(_GRAPH, OK, found), *cameras, *_qos(graph)]


def check_camera(camera: Mapping[str, Any], sizes: Collection[Size], seconds: float) -> Finding:
    """One topic, as ``graph.Camera`` has it."""
    topic = f"{camera['topic']} of {', '.join(camera['publishers'])}"
    if not camera["measured"]:
        return Finding(_CAMERA, OK, f"{topic}: this package's, not listened to")
    if camera["problem"]:
        return Finding(
            _CAMERA, NOTE, f"{topic}: {camera['problem']}", "the driver sends broken messages"
        )
    if not camera["frames"]:
        advice = (
            "it sends nothing, or its images are lost on the way: see DDS transport above, for the"
            " camera's process too"
        )
        return Finding(_CAMERA, NOTE, f"{topic}: no frame in {seconds:g} s", advice)
    rate = "one frame" if camera["hz"] is None else f"{camera['hz']:.1f} Hz"
    size = (camera["width"], camera["height"])
    what = f"{topic}: {rate}, {camera['encoding']}"
    if camera["kind"].endswith("/CompressedImage"):
        return Finding(_CAMERA, OK, f"{what}; for input_transport:=compressed")
    return _fit(f"{what}, {size[0]}x{size[1]}", camera["encoding"], size, sizes)


def _fit(found: str, encoding: str, size: Size, sizes: Collection[Size]) -> Finding:
    if encoding not in ENCODINGS:
        known = ", ".join(ENCODINGS)
        advice = f"it would pass through unrestored: have the driver send one of {known}"
        return Finding(_CAMERA, NOTE, found, advice)
    if size not in sizes:
        width, height = size
        advice = (
            "no bundle here takes that size, it would pass through unrestored: python -m"
            f" unirestore_ros build engines/tiny.yaml --size {width}x{height}"
        )
        return Finding(_CAMERA, NOTE, found, advice)
    return Finding(_CAMERA, OK, found)


def _qos(graph: Mapping[str, Any]) -> list[Finding]:
    return [
        Finding(
            _QOS,
            NOTE,
            f"{one['topic']}: {one['subscriber']} never hears {one['publisher']}:"
            f" {one['reason'].removeprefix('ERROR:').strip(' ;')}",
            "make the subscriber ask for no more than the publisher offers (restore_node:"
            " input_reliability, output_reliability)",
        )
        for one in graph["mismatches"]
    ]
