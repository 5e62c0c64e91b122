"""`vehicle.launch.py` and `bag_replay.launch.py`: their arguments, and a real replay of a bag."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from launched import Launched, arguments, load_file

pytest.importorskip("rclpy", reason="there is no ROS 2 here")
pytest.importorskip("rosbags", reason="rosbags is not installed")

from launch.utilities import perform_substitutions

from unirestore_ros.recordings.bag_command import main as bag
from unirestore_ros.recordings.cameras import BagCamera

TIMEOUT_S = 120.0
SIZE = (480, 360)
FRONT = BagCamera("/camera/front/image_raw", False, SIZE, 9, "/camera/front/camera_info", "/front")
REAR = BagCamera("/camera/rear/image_raw", False, SIZE, 9, None, "/rear")
ALONE = BagCamera("/camera/image_raw", False, SIZE, 9, "/camera/camera_info")


@pytest.fixture(scope="module")
def replay(repository: Path) -> ModuleType:
    return load_file(repository / "launch" / "bag_replay.launch.py")


@pytest.fixture(scope="module")
def vehicle(replay: ModuleType) -> ModuleType:
    found: ModuleType = replay.vehicle
    return found


def words_of(node: Any) -> list[str]:
    """What a process is called with, of that what is text."""
    from launch import LaunchContext

    parts = [perform_substitutions(LaunchContext(), part) for part in node.cmd[1:]]
    return [part for part in parts if part and "--ros-args" not in part]


def test_a_vehicle_takes_all_that_the_nodes_file_takes(vehicle: ModuleType) -> None:
    names = [argument.name for argument in vehicle.ARGUMENTS]
    assert {argument.name for argument in vehicle.restoring.ARGUMENTS} < set(names)
    assert len(names) == len(set(names))


def test_consumers_are_those_of_the_tasks(vehicle: ModuleType) -> None:
    def heads(**said: str) -> list[str]:
        return [node.node_executable for node in vehicle.consumers("", arguments(vehicle, **said))]

    assert heads() == ["segmentation_head", "detection_head"]
    assert heads(tasks="detection, classification") == ["detection_head"]


def test_the_bag_decides_what_is_subscribed(replay: ModuleType) -> None:
    assert replay.from_bag([ALONE], "present") == {
        "input_transport": "raw",
        "use_sim_time": "false",
        "image": "/camera/image_raw",
    }
    several = replay.from_bag([FRONT, REAR], "clock")
    assert several["cameras"] == "front:/camera/front/image_raw,rear:/camera/rear/image_raw"
    assert several["use_sim_time"] == "true"
    compressed = BagCamera("/c/image_raw/compressed", True, SIZE, 9, None)
    said = replay.from_bag([compressed], "recorded")
    assert (said["image"], said["input_transport"]) == ("/c/image_raw", "compressed")
    with pytest.raises(ValueError, match="choose one with topic:="):
        replay.from_bag([compressed, FRONT], "recorded")


def test_image_features_and_what_consumers_publish_are_watched(replay: ModuleType) -> None:
    said = arguments(replay, bag="drive")
    assert replay.watched_topics("/front", said) == [
        "/front/unirestore/image",
        "/front/unirestore/segmentation/features",
        "/front/unirestore/detection/features",
        "/front/segmentation_head/labels",
        "/front/detection_head/markers",
    ]
    fewer = arguments(replay, bag="drive", consumers="false", tasks="detection", name="net")
    assert replay.watched_topics("", fewer) == ["/net/image", "/net/detection/features"]


def test_the_player_plays_as_recorded_unless_told(replay: ModuleType) -> None:
    def words(**said: str) -> list[str]:
        return words_of(
            replay.player(arguments(replay, bag="drive", **said), [ALONE], ["/watched"])
        )

    assert words() == [
        *("play", "drive", "--rate", "1.0", "--restamp"),
        *("--wait-for", "/camera/image_raw", "/watched"),
    ]
    assumed = words(size="64x48", assume_encoding="bgr8")
    assert assumed[4:8] == ["--size", "64x48", "--assume-encoding", "bgr8"]
    other = words(size="64x48", stamps="clock", loop="true", topic="/camera/image_raw")
    assert other[2:-3] == [
        *("--rate", "1.0", "--topics", "/camera/image_raw", "/camera/camera_info"),
        *("--size", "64x48", "--clock", "--loop"),
    ]


def test_reports_of_several_cameras_have_names_of_their_own(replay: ModuleType) -> None:
    said = arguments(replay, bag="drive", report="/tmp/report.json", namespace="car")
    namespace = replay.namespace_of(FRONT, said["namespace"])
    assert namespace == "/car/front"
    words = words_of(replay.watcher(namespace, ["/a"], said))
    assert words[-2:] == ["--out", "/tmp/report_car_front.json"]
    assert replay.namespace_of(ALONE, "") == ""


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """Two seconds of a camera of another size than the bundle's."""
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(10):
        picture = np.full((540, 960, 3), 20 * number, np.uint8)
        assert cv2.imwrite(str(frames / f"{number}.png"), picture)
    assert bag(["make", str(frames), str(tmp_path / "drive"), "--rate", "5"]) == 0
    return tmp_path / "drive"


@pytest.mark.dds
@pytest.mark.slow
def test_a_bag_goes_through_the_vehicle_and_all_ends_with_it(
    repository: Path, drive: Path, tmp_path: Path
) -> None:
    # However slow the machine is, the node restores: no camera mode, no frame that is too old.
    patient = tmp_path / "patient.yaml"
    patient.write_text(
        "/**: {ros__parameters:"
        " {fallback_after_ms: 60000, max_age_ms: 10000, hang_after_ms: 60000}}\n",
        encoding="utf-8",
    )
    said = [f"bag:={drive}", f"report:={tmp_path / 'report.json'}", "page_port:=0"]
    said += [f"params_file:={patient}", "backend:=onnxruntime"]
    with Launched(repository / "launch" / "bag_replay.launch.py", said, tmp_path) as launched:
        assert launched.wait(TIMEOUT_S) == 0, launched.log()
        text = launched.log()
    assert "scaled" not in text and "process has died" not in text, text
    topics = json.loads((tmp_path / "report.json").read_text())["topics"]
    for topic, report in topics.items():
        assert report["messages"] > 0, f"{topic}\n{text}"
    assert topics["/unirestore/image"]["share"] == 1.0


@pytest.mark.dds
@pytest.mark.slow
def test_a_loop_is_ended_by_ctrl_c(repository: Path, drive: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    said = [f"bag:={drive}", "loop:=true", "display:=false", f"report:={report}"]
    with Launched(repository / "launch" / "bag_replay.launch.py", said, tmp_path) as launched:
        end = time.monotonic() + TIMEOUT_S
        # Said by the player before it begins; interrupted then, it has played something or nothing.
        while "cropped at the centre" not in launched.log() and time.monotonic() < end:
            time.sleep(0.1)
        assert launched.interrupt(TIMEOUT_S) == 0, launched.log()
        lines = launched.log().splitlines()
    # The watcher alone may fail, where nothing had come yet.
    died = [line for line in lines if "process has died" in line and "bag watch" not in line]
    assert not died, died
