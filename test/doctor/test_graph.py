"""Cameras of other processes, as the doctor finds them on the graph."""

from __future__ import annotations

import array
import dataclasses
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image

from unirestore_ros.doctor.finding import NOTE, OK, Finding
from unirestore_ros.doctor.graph import CameraTopic, _receive_frame
from unirestore_ros.doctor.ros import check_camera, check_graph

RATE_HZ = 10
CAMERAS = """
import sys, time, rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger
namespace, rate = sys.argv[1], float(sys.argv[2])
best = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
rclpy.init(args=[])
driver = Node("driver", namespace=namespace)
frame = Image(height=72, width=96, encoding="bgr8", step=288)
frame.data.frombytes(bytes(72 * 288))
odd = Image(height=36, width=48, encoding="mono12", step=96)
odd.data.frombytes(bytes(36 * 96))
topics = {"good": frame, "odd": odd, "quiet": None}
publishers = {t: driver.create_publisher(Image, t, best) for t in topics}
other = Node("viewer", namespace=namespace)
ignore = lambda *given: None  # Python 3.10 knows no signature of print, for which rclpy asks
other.create_subscription(Image, "good", ignore, QoSProfile(depth=1))
own = Node("unirestore", namespace=namespace)
own.create_publisher(Image, "~/image", 1)
own.create_service(SetBool, "~/set_enabled", ignore)
own.create_service(Trigger, "~/reload", ignore)
print("ready", flush=True)
while True:
    for topic, message in topics.items():
        if message is not None:
            publishers[topic].publish(message)
    time.sleep(1 / rate)
"""


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """Start a process with a driver of three topics, a viewer that asks for too much, and a
    restore_node; return their namespace."""
    name = f"/d{uuid.uuid4().hex[:8]}"
    command = [sys.executable, "-c", CAMERAS, name, str(RATE_HZ)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield name
        process.kill()


@pytest.fixture(scope="module")
def findings(namespace: str) -> list[Finding]:
    """Run the check until discovery has found everything, which takes longer on a busy machine."""
    end = time.monotonic() + 90
    while True:
        found = check_graph(1.0)
        mine = [one for one in found if namespace in one.found]
        if len(mine) == 5 and all("no frame" not in one.found for one in mine[:2]):
            return mine
        assert time.monotonic() < end, found


@pytest.mark.ros_smoke
@pytest.mark.dds
def test_each_camera_has_its_rate_encoding_and_advice(
    namespace: str, findings: list[Finding]
) -> None:
    by_topic = {one.found.split(" ")[0]: one for one in findings if one.check == "camera"}
    good = by_topic[f"{namespace}/good"]
    assert good.level == OK and f"{namespace}/driver" in good.found
    assert good.found.endswith("bgr8, 96x72")
    rate = float(good.found.split(" Hz")[0].split(" ")[-1])
    assert 0 < rate < 2 * RATE_HZ
    odd, quiet = by_topic[f"{namespace}/odd"], by_topic[f"{namespace}/quiet"]
    assert odd.level == NOTE and "unrestored" in odd.advice
    assert quiet.level == NOTE and "no frame" in quiet.found


@pytest.mark.dds
def test_what_a_restoring_node_publishes_is_not_subscribed(
    namespace: str, findings: list[Finding]
) -> None:
    (own,) = [one for one in findings if f"{namespace}/unirestore/image" in one.found]
    assert own.level == OK and "not subscribed" in own.found


@pytest.mark.dds
def test_a_subscriber_that_asks_for_too_much_is_noted(
    namespace: str, findings: list[Finding]
) -> None:
    (qos,) = [one for one in findings if one.check == "QoS"]
    assert qos.level == NOTE
    assert f"{namespace}/viewer never receives from {namespace}/driver" in qos.found
    assert qos.found.endswith("Best effort publisher and reliable subscription")


def camera(**changes: Any) -> dict[str, Any]:
    values = {
        "topic": "/camera/image_raw",
        "kind": "sensor_msgs/msg/Image",
        "publishers": ["/camera/driver"],
        "measured": True,
        "frames": 90,
        "hz": 29.97,
        "encoding": "bgr8",
        "width": 640,
        "height": 480,
        "problem": "",
        "unsupported": "",
    }
    return values | changes


def test_a_size_that_no_bundle_takes_is_named() -> None:
    assert check_camera(camera(), 3.0).level == OK
    finding = check_camera(camera(width=640, height=100), 3.0)
    assert finding.level == NOTE
    assert "the longer side is over 4 times the shorter" in finding.advice


def received(kind: type, **fields: Any) -> Finding:
    """What the doctor says of a camera that sends one message."""
    topic = CameraTopic("/camera/image", f"sensor_msgs/msg/{kind.__name__}", ["/driver"], True)
    times: list[int] = []
    _receive_frame(topic, times, serialize_message(kind(**fields)))
    topic.frames = len(times)
    return check_camera(dataclasses.asdict(topic), 3.0)


def test_what_would_not_be_restored_is_named() -> None:
    jpeg = array.array("B", cv2.imencode(".jpg", np.zeros((72, 96, 3), np.uint8))[1].tobytes())
    good = received(CompressedImage, format="jpeg", data=jpeg)
    assert good.level == OK
    assert good.found.endswith("jpeg, 96x72; for input_transport:=compressed")
    for finding, words in (
        (received(CompressedImage, format="h264", data=bytes(9)), "format 'h264'"),
        (received(CompressedImage, format="16UC1; compressedDepth", data=jpeg), "a depth image"),
        (received(Image, encoding="8UC3", width=2, height=2, step=6, data=bytes(12)), "assume_enc"),
        (received(Image, encoding="bgr8", width=2, height=2, step=3, data=bytes(12)), "broken"),
        (received(Image, encoding="bgr8", width=2, height=2, step=6, data=bytes(12)), "64 to"),
    ):
        assert finding.level == NOTE and words in finding.advice


def test_broken_frames_and_compressed_ones() -> None:
    assert check_camera(camera(problem="cut short"), 3.0).level == NOTE
    kind = "sensor_msgs/msg/CompressedImage"
    finding = check_camera(camera(kind=kind, encoding="bgr8; jpeg compressed bgr8"), 3.0)
    assert finding.level == OK and "input_transport:=compressed" in finding.found
