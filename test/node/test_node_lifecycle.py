"""Every transition of the lifecycle, the node's start, its end, and the bundle it cannot use."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from rclpy.context import Context
from ros_fixtures import PATIENT, StartNode
from ros_miniature import expected_image, frame, write_miniature
from ros_process import NodeProcess
from ros_station import Inbox, Station, image, values_of
from sensor_msgs.msg import CompressedImage, Image

pytestmark = pytest.mark.dds

BGR = frame(seed=1)[..., ::-1]
RESTORED = expected_image(BGR[..., ::-1])[..., ::-1]


def pixels_of(answer: Image) -> np.ndarray:
    return np.frombuffer(answer.data, np.uint8).reshape(answer.height, answer.width, -1)


@pytest.fixture(scope="module")
def node(start_node: StartNode, miniature: Path) -> NodeProcess:
    """A node whose transitions the tests make."""
    return start_node(f"bundle:={miniature}", "autostart:=false", "max_age_ms:=10000")


@pytest.fixture
def unconfigured(station: Station) -> Station:
    """Wherever a test before has left it."""
    if station.state() == "active":
        station.change_state(Transition.TRANSITION_DEACTIVATE)
    if station.state() == "inactive":
        station.change_state(Transition.TRANSITION_CLEANUP)
    assert station.state() == "unconfigured"
    return station


def activate(station: Station) -> None:
    assert station.change_state(Transition.TRANSITION_CONFIGURE)
    assert station.change_state(Transition.TRANSITION_ACTIVATE)


def restore_first(station: Station) -> None:
    station.restore_first(image(BGR, "bgr8"))


@pytest.mark.ros_smoke
def test_every_transition(unconfigured: Station) -> None:
    station = unconfigured
    name = station.name("image")
    assert station.node.count_publishers(name) == 0
    assert station.change_state(Transition.TRANSITION_CONFIGURE)
    assert station.state() == "inactive"
    assert station.change_state(Transition.TRANSITION_ACTIVATE)
    assert station.state() == "active"
    restore_first(station)
    out = station.subscribe("image")
    camera = station.camera()
    np.testing.assert_array_equal(pixels_of(station.exchange(image(BGR, "bgr8"), out)), RESTORED)
    assert station.change_state(Transition.TRANSITION_DEACTIVATE)
    assert station.state() == "inactive"
    station.wait(lambda: camera.get_subscription_count() == 0, "the node to let go")
    assert station.change_state(Transition.TRANSITION_ACTIVATE)
    out.messages.clear()
    station.exchange(image(BGR, "bgr8"), out)
    assert station.change_state(Transition.TRANSITION_DEACTIVATE)
    assert station.change_state(Transition.TRANSITION_CLEANUP)
    assert station.state() == "unconfigured"
    station.wait(lambda: station.node.count_publishers(name) == 0, "no publisher")


@pytest.mark.ros_smoke
def test_transitions_that_are_not_there_are_refused(unconfigured: Station) -> None:
    assert not unconfigured.change_state(Transition.TRANSITION_ACTIVATE)
    assert unconfigured.state() == "unconfigured"


@pytest.mark.ros_smoke
def test_what_changes_only_while_unconfigured(unconfigured: Station) -> None:
    station = unconfigured
    assert all(result.successful for result in station.set_parameters(tasks=["detection"]))
    activate(station)
    (result,) = station.set_parameters(tasks=["segmentation"])
    assert not result.successful
    assert result.reason == "tasks may change only while the node is unconfigured"
    (result,) = station.set_parameters(jpeg_quality=101)
    assert not result.successful and "jpeg_quality" in result.reason
    (result,) = station.set_parameters(autostart=True)
    assert not result.successful
    assert station.node.count_publishers(station.name("segmentation/features")) == 0
    station.wait(
        lambda: station.node.count_publishers(station.name("detection/features")), "features"
    )
    station.change_state(Transition.TRANSITION_DEACTIVATE)
    station.change_state(Transition.TRANSITION_CLEANUP)
    station.set_parameters(tasks=["segmentation", "detection"])


def test_compressed_input(unconfigured: Station) -> None:
    station = unconfigured
    station.set_parameters(input_transport="compressed", fallback_after_ms=30000)
    activate(station)
    try:
        sent = CompressedImage(format="bgr8; png compressed bgr8")
        sent.data.frombytes(cv2.imencode(".png", BGR)[1].tobytes())
        station.restore_first(sent, "image/compressed")
        out, jpeg = (
            station.subscribe("image"),
            station.subscribe("image/compressed", CompressedImage),
        )
        answer = station.exchange(sent, out, topic="image/compressed")
        assert answer.encoding == "bgr8"
        np.testing.assert_array_equal(pixels_of(answer), RESTORED)
        station.set_enabled(False)
        jpeg.messages.clear()
        passed = station.exchange(sent, jpeg, topic="image/compressed")
        assert passed.format == sent.format and passed.data == sent.data
        answer = station.wait(lambda: out.of(stamp(passed)), "the camera's image")
        np.testing.assert_array_equal(pixels_of(answer), BGR)
        assert_cut_off_is_dropped(station)
        assert_hostile_size_is_dropped(station)
        assert_depth_is_no_picture(station, jpeg)
    finally:
        station.set_enabled(True)
        station.change_state(Transition.TRANSITION_DEACTIVATE)
        station.change_state(Transition.TRANSITION_CLEANUP)
        station.set_parameters(input_transport="raw", fallback_after_ms=500)


def stamp(message: Any) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def assert_cut_off_is_dropped(station: Station) -> None:
    half = CompressedImage(format="jpeg")
    half.data.frombytes(cv2.imencode(".jpg", BGR)[1].tobytes()[:400])
    station.send(half, "image/compressed")
    station.diagnosis(lambda s: "cut off" in values_of(s)["last_error"], "the frame cut off")


def assert_hostile_size_is_dropped(station: Station) -> None:
    """16 MP in some kilobytes: decoding it takes the memory of 48 MB and a third of a second."""
    bomb = CompressedImage(format="png")
    bomb.data.frombytes(cv2.imencode(".png", np.zeros((4096, 4096), np.uint8))[1].tobytes())
    station.send(bomb, "image/compressed")
    said = "bytes that says it has 4096x4096 pixels"
    station.diagnosis(lambda s: said in values_of(s)["last_error"], "a size that cannot be")


def assert_depth_is_no_picture(station: Station, jpeg: Inbox) -> None:
    """It is relayed as it came, and the reason names it."""
    station.set_enabled(True)
    depth = CompressedImage(format="16UC1; compressedDepth png")
    depth.data.frombytes(cv2.imencode(".png", BGR[..., 0].astype(np.uint16))[1].tobytes())
    passed = station.exchange(depth, jpeg, topic="image/compressed")
    assert passed.format == depth.format and passed.data == depth.data
    station.diagnosis(lambda s: "is a depth image, no picture" in s.message, "what it is")


def test_without_a_usable_bundle_the_camera_is_shown(
    unconfigured: Station, tmp_path: Path, miniature: Path
) -> None:
    station = unconfigured
    folder = tmp_path / "bundle"
    station.set_parameters(bundle=str(folder), max_age_ms=10000)
    activate(station)
    out = station.subscribe("image")
    np.testing.assert_array_equal(pixels_of(station.exchange(image(BGR, "bgr8"), out)), BGR)
    status = station.diagnosis(lambda s: s.level == DiagnosticStatus.ERROR, "an error")
    assert f"bundle {folder}: there is no such folder" in status.message
    assert "python -m unirestore_ros build" in status.message
    assert values_of(status)["mode"] == "camera"
    assert not station.reload().success
    write_miniature(folder)
    assert station.reload().success

    def restored() -> bool:
        out.messages.clear()
        return bool(np.array_equal(pixels_of(station.exchange(image(BGR, "bgr8"), out)), RESTORED))

    station.wait(restored, "restored frames")
    station.set_parameters(bundle=str(miniature))


def test_a_task_without_a_prompt_is_named(unconfigured: Station) -> None:
    station = unconfigured
    station.set_parameters(tasks=["lane_marks"])
    activate(station)
    status = station.diagnosis(lambda s: s.level == DiagnosticStatus.ERROR, "an error")
    assert "the bundle miniature has no prompt for lane_marks" in status.message
    assert "build --add-prompt lane_marks=FILE" in status.message
    station.change_state(Transition.TRANSITION_DEACTIVATE)
    station.change_state(Transition.TRANSITION_CLEANUP)
    station.set_parameters(tasks=["segmentation", "detection"])


def test_reload_needs_a_configured_node(unconfigured: Station) -> None:
    answer = unconfigured.reload()
    assert not answer.success and "not configured" in answer.message


GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


_SEGMENT = re.compile("/dev/shm/fast(dds|rtps)_")  # as Kilted and Jazzy name them


def segments(process: int | str) -> set[Path]:
    """Files of Fast DDS in shared memory that a process has mapped or open."""
    maps = Path(f"/proc/{process}/maps").read_text().splitlines()
    mapped = {Path(line.split()[-1]) for line in maps if _SEGMENT.search(line)}
    descriptors = f"/proc/{process}/fd"
    opened = set()
    for name in os.listdir(descriptors):
        with contextlib.suppress(FileNotFoundError):  # the listing's own is gone
            opened.add(Path(os.readlink(f"{descriptors}/{name}")))
    return mapped | {path for path in opened if _SEGMENT.search(str(path))}


def segments_in_use() -> set[Path]:
    """Segments of all processes: a node maps those of others, who may live on when it ends."""
    used: set[Path] = set()
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(*GONE):
            used |= segments(process)
    return used


@pytest.mark.ros_smoke
@pytest.mark.parametrize(("number", "busy"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_ends_cleanly(
    start_node: Callable, miniature: Path, context: Context, number: signal.Signals, busy: bool
) -> None:
    """Exit status 0, no error in the log, and nothing left in shared memory."""
    earlier = set(Path("/dev/shm").iterdir())  # of killed processes: any node may map it
    node = start_node(f"bundle:={miniature}", *PATIENT)
    station = Station(context, node.namespace)
    out = station.subscribe("image")
    station.exchange(image(BGR, "bgr8"), out)
    if busy:
        station.send(image(frame(work=250)[..., ::-1], "bgr8"))
    seen = segments(node.process.pid)
    assert any(path.exists() for path in seen - segments("self"))
    assert node.end(number) == 0
    assert "Traceback" not in node.said() and "rror" not in node.said()

    def nothing_left() -> bool:
        return {path for path in seen if path.exists()} - earlier <= segments_in_use()

    # The last to close a file removes it: this process, once discovery has told it of the end.
    station.wait(nothing_left, "an empty shared memory", limit_s=10.0)
    station.close()


def test_shutdown_is_a_transition_too(
    start_node: Callable, context: Context, miniature: Path
) -> None:
    node = start_node(f"bundle:={miniature}")
    station = Station(context, node.namespace)
    station.wait(lambda: station.state() == "active", "the node to start itself")
    assert station.change_state(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert station.state() == "finalized"
    station.close()
    assert node.end() == 0


def test_wrong_parameters_at_the_start_are_refused(start_node: Callable) -> None:
    """What ROS checks, and what it leaves to the node."""
    wrong = {
        "jpeg_quality:=0": "jpeg_quality out of range",
        "tasks:=[Lane]": "task name 'Lane' is not snake_case",
    }
    nodes = {start_node(parameter): said for parameter, said in wrong.items()}
    for node, said in nodes.items():
        assert node.process.wait(90) == 2
        assert said in node.said() and "Traceback" not in node.said()


def test_unknown_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    from unirestore_ros.node.restore_node import main

    assert main(["--bundle", "tiny"]) == 2
    assert "unknown arguments --bundle tiny" in capsys.readouterr().err
