"""`bag play` and `bag watch`: real processes over DDS, and what becomes of stamps."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import rclpy
from bag_maker import LATCHED, MS, START_NS, BagMaker, make_drive, street
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rclpy.serialization import serialize_message

from unirestore_ros.msgs.transport import profile_variable
from unirestore_ros.recordings.arrivals import header_place, message_class
from unirestore_ros.recordings.bag_command import main, split_ros_arguments
from unirestore_ros.recordings.headers import Header, has_header, read_header, with_stamp
from unirestore_ros.recordings.play import Pace, Player, Playlist, qos_profile
from unirestore_ros.recordings.storage import open_reader

TIMEOUT_S = 90.0
# The player has been acknowledged all that it sent: the watcher has it, and needs to count it.
LINGER_S = 0.5
FRAMES = 8
REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_stamp_alone_is_changed_in_either_order_of_bytes() -> None:
    for order, mark in (("<", 1), (">", 0)):
        head = bytes((0, mark, 0, 0))
        message = head + struct.pack(f"{order}iII", 5, 6, 4) + b"cam\0" + b"rest"
        assert read_header(message) == Header(5_000_000_006, "cam")
        changed = with_stamp(message, 7_000_000_008)
        assert read_header(changed) == Header(7_000_000_008, "cam")
        assert changed[12:] == message[12:] and len(changed) == len(message)
    assert read_header(b"\0\1\0\0") is None


def test_which_types_begin_with_a_header(tmp_path: Path) -> None:
    with open_reader(make_drive(tmp_path / "drive", 1)) as reader:
        found = {each.topic: has_header(each) for each in reader.connections}
    assert found == {
        "/camera/image_raw": True,
        "/camera/camera_info": True,
        "/robot_description": False,
        "/steering": False,
    }


def test_a_list_of_messages_has_the_header_of_its_first() -> None:
    markers, marker = (
        message_class(f"visualization_msgs/msg/{n}") for n in ("MarkerArray", "Marker")
    )
    assert markers is not None and marker is not None
    message = markers()
    assert read_header(serialize_message(message), 4) is None  # an empty one has none
    message.markers.append(marker())
    message.markers[0].header.frame_id = "camera"
    message.markers[0].header.stamp.sec = 9
    place = header_place(markers)
    assert place == 4
    assert read_header(serialize_message(message), place) == Header(9 * 10**9, "camera")
    assert header_place(message_class("sensor_msgs/msg/Image")) == 0
    assert header_place(message_class("std_msgs/msg/String")) is None


def test_recorded_qos_is_offered_again() -> None:
    profile = qos_profile([LATCHED])
    assert (profile.depth, profile.durability) == (3, DurabilityPolicy.TRANSIENT_LOCAL)
    assert profile.reliability == ReliabilityPolicy.RELIABLE


def test_types_that_are_not_installed_have_no_class() -> None:
    assert message_class("sensor_msgs/msg/Image") is not None
    assert message_class("my_vehicle_msgs/msg/Steering") is None
    assert message_class("sensor_msgs/msg/Nonsense") is None
    for damaged in ("", "/msg/Image", "..msg/Image", "sensor-msgs/msg/Image"):
        assert message_class(damaged) is None


def test_the_words_of_ros_are_kept_apart() -> None:
    words = ["play", "drive", "--ros-args", "-r", "a:=b", "--", "--loop"]
    assert split_ros_arguments(words) == (["play", "drive", "--loop"], ["--ros-args", "-r", "a:=b"])
    assert split_ros_arguments(["play", "drive"]) == (["play", "drive"], [])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["absent"], "there is no bag"),
        (
            ["drive", "--topics", "/rear"],
            "has no /rear, but /camera/camera_info, /camera/image_raw",
        ),
        (["drive", "--topics", "/steering"], "nothing that can be played here"),
        (["drive", "--start", "99"], "after the end of the bag"),
    ],
)
def test_what_cannot_be_played_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, words: list[str], reason: str
) -> None:
    make_drive(tmp_path / "drive", 1)
    assert main(["play", str(tmp_path / words[0]), *words[1:]]) == 1
    assert reason in caplog.text
    assert not rclpy.ok()


class Publisher:
    """Notes when it is called; the first call takes as long as it is set to."""

    def __init__(self, first_takes_s: float = 0.0) -> None:
        self.first_takes_s = first_takes_s
        self.times: list[int] = []
        self.stamps: list[int] = []
        self.waited = False

    def publish(self, data: bytes) -> None:
        self.times.append(time.time_ns())
        header = read_header(data)
        assert header is not None
        self.stamps.append(header.stamp_ns)
        if len(self.times) == 1:
            time.sleep(self.first_takes_s)

    def wait_for_all_acked(self, limit: object) -> None:
        self.waited = True


def played(
    tmp_path: Path, offsets_ms: list[int], publisher: Publisher, pace: Pace, stopped: bool = False
) -> list[tuple[str, int, int]]:
    """Play an image topic with frames at those times; what the player says that it sent."""
    maker = BagMaker(tmp_path / "drive")
    with maker.writer:
        for offset in offsets_ms:
            maker.image("/camera/image_raw", START_NS + offset * MS, street(0))
    sent: list[tuple[str, int, int]] = []
    with open_reader(tmp_path / "drive") as reader:
        number = reader.connections[0].id
        publishers: dict[int, Any] = {number: publisher}
        end = reader.end_time
        playlist = Playlist(reader, publishers, frozenset([number]), START_NS, end)
        player = Player(None, playlist, pace, sent=lambda *each: sent.append(each))
        player.play(lambda: stopped)
    return sent


def test_no_frame_comes_before_it_is_due(tmp_path: Path) -> None:
    publisher = Publisher()
    offsets = [0, 30, 45, 90]
    sent = played(tmp_path, offsets, publisher, Pace(rate=0.5, restamp=True))
    times = [at - publisher.times[0] for at in publisher.times]
    assert all(at >= 2 * due * MS - MS for at, due in zip(times, offsets, strict=True))
    assert publisher.waited
    assert [bag_ns for _, bag_ns, _ in sent] == [START_NS + offset * MS for offset in offsets]


@pytest.mark.parametrize("keep_spacing", [True, False])
def test_after_a_late_frame_the_spacing_is_kept_if_asked(
    tmp_path: Path, keep_spacing: bool
) -> None:
    publisher = Publisher(first_takes_s=0.15)
    pace = Pace(restamp=True, keep_spacing=keep_spacing)
    sent = played(tmp_path, [0, 50, 100], publisher, pace)
    times = publisher.times
    assert times[1] - times[0] >= 149 * MS
    assert (times[2] - times[1] >= 49 * MS) == keep_spacing
    # Stamps say when a frame was due: where that is shifted, when it was sent.
    late = times[1] - publisher.stamps[1]
    assert (late < 49 * MS) == keep_spacing
    assert len(sent) == 3


def test_a_player_that_is_stopped_publishes_nothing_more(tmp_path: Path) -> None:
    publisher = Publisher()
    assert played(tmp_path, [0, 50], publisher, Pace(), stopped=True) == []
    assert publisher.times == []


class Processes:
    """Processes of `bag`, ended with the test."""

    def __init__(self, folder: Path, endings: ExitStack) -> None:
        self._folder = folder
        self._endings = endings
        profile = str(REPOSITORY / "config" / "fastdds.xml")
        self._environment = {**os.environ, profile_variable(): profile}

    def start(self, *words: object) -> subprocess.Popen[bytes]:
        log = (self._folder / f"{words[0]}.log").open("wb")
        self._endings.callback(log.close)
        command = [sys.executable, "-m", "unirestore_ros", "bag", *map(str, words)]
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=self._environment
        )
        self._endings.callback(process.wait)
        self._endings.callback(process.kill)
        return process

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with ExitStack() as endings:
        yield Processes(tmp_path, endings)


def watched(
    processes: Processes, tmp_path: Path, bag: Path, *words: object, quiet: bool = False
) -> dict[str, Any]:
    """What `bag watch` reports of two topics while the bag is played; it ends when nothing comes
    any more where ``quiet``, else by a signal once all is played."""
    image, info = "/camera/image_raw", "/camera/camera_info"
    out = tmp_path / "watched.json"
    ending = ("--quiet", 3) if quiet else ()
    watch = processes.start("watch", image, info, "--of", info, "--out", out, *ending)
    play = processes.start("play", bag, "--wait-for", image, info, *words)
    assert play.wait(TIMEOUT_S) == 0, processes.log("play")
    if not quiet:
        time.sleep(LINGER_S)
        watch.send_signal(signal.SIGINT)
    assert watch.wait(TIMEOUT_S) == 0, processes.log("watch")
    report: dict[str, Any] = json.loads(out.read_text())["topics"]
    return report


@pytest.mark.ros_smoke
@pytest.mark.dds
def test_what_is_played_arrives_with_stamps_of_the_present(
    processes: Processes, tmp_path: Path
) -> None:
    drive = make_drive(tmp_path / "drive", FRAMES, "mcap")
    report = watched(processes, tmp_path, drive, "--restamp", quiet=True)
    for topic in ("/camera/image_raw", "/camera/camera_info"):
        assert report[topic]["messages"] == FRAMES
        # By stamp: image and calibration of a frame still have the same one.
        assert report[topic]["share"] == 1.0
        assert 0 < report[topic]["age_ms"]["p50"] < 1000 * TIMEOUT_S
    assert "/steering is not played: my_vehicle_msgs/msg/Steering" in processes.log("play")


@pytest.mark.dds
def test_frames_are_fitted_and_the_rest_is_as_recorded(
    processes: Processes, tmp_path: Path
) -> None:
    drive = make_drive(tmp_path / "drive", FRAMES, size=(160, 90))
    words = "--size", "64x48", "--rate", "4", "--duration", "0.35"
    report = watched(processes, tmp_path, drive, *words)
    assert report["/camera/image_raw"]["messages"] == 4
    # Not restamped: of the year in which it was recorded.
    years = (time.time_ns() - START_NS) / 1e6
    assert report["/camera/image_raw"]["age_ms"]["p50"] == pytest.approx(years, rel=0.01)
    assert "scaled from 160x90 to 85x48" in processes.log("play")


@pytest.mark.dds
def test_a_loop_goes_on_with_a_clock_until_it_is_interrupted(
    processes: Processes, tmp_path: Path
) -> None:
    maker = BagMaker(tmp_path / "drive")
    with maker.writer:
        for index in range(4):
            maker.text("/chatter", START_NS + index * 50 * MS, f"{index}")
    play = processes.start("play", tmp_path / "drive", "--loop", "--clock", "20")
    heard: Counter[str] = Counter()
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("listener", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    for topic, kind in (("/chatter", "std_msgs/msg/String"), ("/clock", "rosgraph_msgs/msg/Clock")):
        found = message_class(kind)
        node.create_subscription(found, topic, lambda _, name=topic: heard.update([name]), 10)
    deadline = time.monotonic() + TIMEOUT_S
    try:
        while min(heard["/chatter"], heard["/clock"]) < 10 and time.monotonic() < deadline:
            executor.spin_once(0.1)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)
    assert min(heard["/chatter"], heard["/clock"]) >= 10
    play.send_signal(signal.SIGINT)
    assert play.wait(TIMEOUT_S) == 0, processes.log("play")


@pytest.mark.dds
def test_topics_on_which_nothing_comes_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["watch", "/nobody", "--seconds", "0.5"]) == 1
    assert "nothing came on /nobody" in caplog.text


def test_rates_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["play", "drive", "--rate", "0"])
    assert "0.001 to 1000" in capsys.readouterr().err
