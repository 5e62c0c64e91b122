"""Recordings as people have them: what is odd about each, and that every tool takes it."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from bag_maker import IMAGE, LATCHED, MS, START_NS, BagMaker, make_drive, street
from bag_mutations import TOOLS, compare, play, read_all, read_source, restore
from odd_recordings import CAMERA, FRAMES, MESSAGES, all_messages, storage_file, warnings
from rosbags.rosbag2 import Reader as RosbagsReader

from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.bag_command import main
from unirestore_ros.recordings.cameras import find_cameras
from unirestore_ros.recordings.fitting import read_info
from unirestore_ros.recordings.headers import read_header
from unirestore_ros.recordings.play import CameraClocks
from unirestore_ros.recordings.sources import is_bag, open_source
from unirestore_ros.recordings.storage import open_reader, qos_of

SHARED_CASES = Path(__file__).resolve().parents[3] / "shared" / "cases" / "make_cases.py"

Edit = Callable[[dict[str, Any]], object]


def edit(folder: Path, change: Edit) -> Path:
    path = folder / "metadata.yaml"
    content = yaml.safe_load(path.read_text())
    change(content["rosbag2_bagfile_information"])
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


def short(information: dict[str, Any]) -> None:
    information["duration"]["nanoseconds"] = 100 * MS


def late(information: dict[str, Any]) -> None:
    information["starting_time"]["nanoseconds_since_epoch"] += 200 * MS


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
@pytest.mark.parametrize("change", [short, late])
def test_metadata_that_tell_of_a_part_do_not_hide_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, storage: str, change: Edit
) -> None:
    drive = edit(make_drive(tmp_path / "drive", FRAMES, storage), change)
    assert play(drive, tmp_path) == MESSAGES - FRAMES  # nobody has the type of the steering
    assert read_source(drive, tmp_path) == FRAMES
    caplog.clear()
    assert read_all(drive, tmp_path) == MESSAGES
    (line,) = warnings(caplog)
    assert "metadata.yaml and storage differ" in line


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_quality_of_service_is_that_of_the_storage(tmp_path: Path, storage: str) -> None:
    drive = make_drive(tmp_path / "drive", 1, storage)

    def forget(information: dict[str, Any]) -> None:
        for topic in information["topics_with_message_count"]:
            topic["topic_metadata"]["offered_qos_profiles"] = []

    with open_reader(drive) as reader:
        before = {each.topic: qos_of(each) for each in reader.connections}
    with open_reader(edit(drive, forget)) as reader:
        assert {each.topic: qos_of(each) for each in reader.connections} == before
        assert before["/robot_description"][0].depth == 3
        assert find_cameras(reader)[0].topic == CAMERA


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_without_metadata_folder_and_file_are_the_bag(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, storage: str
) -> None:
    drive = make_drive(tmp_path / "drive", FRAMES, storage)
    whole = all_messages(drive)
    (drive / "metadata.yaml").unlink()
    assert is_bag(drive) and is_bag(storage_file(drive))
    assert all_messages(drive) == all_messages(storage_file(drive)) == whole
    assert read_source(storage_file(drive), tmp_path) == FRAMES
    assert warnings(caplog) == []


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_many_files_without_metadata_are_read_in_natural_order(
    tmp_path: Path, storage: str
) -> None:
    """Their times are all the same, so that names alone say which comes first."""
    (tmp_path / "split").mkdir()
    for number in (10, 2, 1):
        maker = BagMaker(tmp_path / f"part{number}", storage)
        with maker.writer:
            maker.text("/number", START_NS, str(number))
        file = storage_file(tmp_path / f"part{number}")
        file.rename(tmp_path / "split" / f"drive_{number}{file.suffix}")
    found = [data for _, _, data in all_messages(tmp_path / "split")]
    assert [int(data[8:].rstrip(b"\0")) for data in found] == [1, 2, 10]


def test_files_that_overlap_are_read_in_the_order_of_their_times(tmp_path: Path) -> None:
    (tmp_path / "split").mkdir()
    for number in range(2):
        maker = BagMaker(tmp_path / f"part{number}", "mcap")
        with maker.writer:
            for index in range(number, 6, 2):
                maker.text("/number", START_NS + index * MS, str(index))
        storage_file(tmp_path / f"part{number}").rename(tmp_path / "split" / f"d_{number}.mcap")
    times = [when for _, when, _ in all_messages(tmp_path / "split")]
    assert times == [START_NS + index * MS for index in range(6)]


def test_a_file_that_is_missing_costs_its_messages_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def more(information: dict[str, Any]) -> None:
        information["relative_file_paths"].append("drive_1.mcap")

    drive = edit(make_drive(tmp_path / "drive", FRAMES, "mcap"), more)
    assert read_all(drive, tmp_path) == MESSAGES
    assert "missing: drive_1.mcap" in caplog.text


def test_a_topic_on_two_channels_is_one(tmp_path: Path) -> None:
    """As when a driver was started again with other QoS while the recorder ran."""
    maker = BagMaker(tmp_path / "drive", "mcap")
    with maker.writer:
        maker.image(CAMERA, START_NS, street(0))
        second = maker.writer.add_connection(
            CAMERA, IMAGE, typestore=maker.types, offered_qos_profiles=[LATCHED]
        )
        maker.connections[CAMERA] = second
        maker.image(CAMERA, START_NS + 100 * MS, street(1))
    with open_reader(tmp_path / "drive") as reader:
        (connection,) = reader.connections
        assert connection.msgcount == 2
        assert find_cameras(reader)[0].messages == 2
    assert read_source(tmp_path / "drive", tmp_path) == 2
    assert compare(tmp_path / "drive", tmp_path) == 2


@pytest.mark.parametrize("version", [1, 4, 5, 7, 10, 99])
def test_metadata_of_other_versions(tmp_path: Path, version: int) -> None:
    def change(information: dict[str, Any]) -> None:
        information["version"] = version
        for name in ("files", "custom_data", "ros_distro")[: max(0, 8 - version)]:
            information.pop(name, None)
        if version < 3:
            del information["compression_mode"], information["compression_format"]
        if version < 4:
            information["relative_file_paths"] = ["/home/somebody/drive/drive.db3"]
            for topic in information["topics_with_message_count"]:
                del topic["topic_metadata"]["offered_qos_profiles"]

    drive = edit(make_drive(tmp_path / "drive", FRAMES), change)
    assert read_all(drive, tmp_path) == MESSAGES


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
@pytest.mark.parametrize("compression", ["message", "file", "storage"])
def test_compressed_bags(tmp_path: Path, storage: str, compression: str) -> None:
    if (storage, compression) == ("sqlite3", "storage"):
        pytest.skip("sqlite3 has no chunks to compress")
    maker = BagMaker(tmp_path / "drive", storage, compression=compression)
    with maker.writer:
        for index in range(FRAMES):
            maker.image(CAMERA, START_NS + index * 100 * MS, street(index))
    frames = list(open_source(tmp_path / "drive").frames())
    assert all((frame.image == street(i)).all() for i, frame in enumerate(frames))
    assert len(frames) == FRAMES
    # Nothing but the metadata says that they are compressed: the files do too.
    (tmp_path / "drive" / "metadata.yaml").unlink()
    assert read_source(tmp_path / "drive", tmp_path) == FRAMES


def test_chunks_in_lz4(tmp_path: Path) -> None:
    import lz4.frame

    maker = BagMaker(tmp_path / "drive", "mcap")
    with maker.writer:
        storage: Any = maker.writer.storage
        storage.compression, storage.compressor = "lz4", lz4.frame.compress
        for index in range(FRAMES):
            maker.image(CAMERA, START_NS + index * 100 * MS, street(index))
    assert b"lz4" in storage_file(tmp_path / "drive").read_bytes()
    assert read_source(tmp_path / "drive", tmp_path) == FRAMES


def test_new_bags_play_on_humble(tmp_path: Path) -> None:
    """Humble reads QoS as one text, and fails on the list of metadata of version 9."""
    (tmp_path / "frames").mkdir()
    import cv2

    cv2.imwrite(str(tmp_path / "frames" / "0.png"), street(0))
    assert main(["make", str(tmp_path / "frames"), str(tmp_path / "made")]) == 0
    content = yaml.safe_load((tmp_path / "made" / "metadata.yaml").read_text())
    information = content["rosbag2_bagfile_information"]
    assert information["version"] == 8
    for topic in information["topics_with_message_count"]:
        profiles = topic["topic_metadata"]["offered_qos_profiles"]
        assert isinstance(profiles, str) and isinstance(yaml.safe_load(profiles), list)


def test_the_camera_behind_depth_topics_is_chosen_by_every_tool(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive", "mcap")
    depth = np.full((48, 64), 1000, np.uint16)
    with maker.writer:
        for index in range(FRAMES):
            now = START_NS + index * 100 * MS
            maker.image("/depth/image_raw", now, depth, "16UC1")
            maker.image("/depth/metres", now, depth.astype(np.float32), "32FC1")
            # Depth that image_transport has compressed: a PNG of 16 bits.
            maker.jpeg("/depth/image_rect/compressed", now, depth, ".png")
            maker.image("/front/image_raw", now, street(index))
    with open_reader(tmp_path / "drive") as reader:
        assert [camera.topic for camera in find_cameras(reader)] == ["/front/image_raw"]
    assert "/front/image_raw" in open_source(tmp_path / "drive").description
    assert read_source(tmp_path / "drive", tmp_path) == FRAMES
    with pytest.raises(RecordingError, match="depth"):
        open_source(tmp_path / "drive", "/depth/image_raw")


def test_several_cameras_are_named_and_the_first_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    maker = BagMaker(tmp_path / "drive", "mcap")
    with maker.writer:
        for name in ("/rear/image_raw", "/front/image_raw"):
            maker.image(name, START_NS, street(0))
    assert "/rear/image_raw" in open_source(tmp_path / "drive").description
    assert "--topic chooses another: /front/image_raw" in caplog.text


def test_each_topic_is_shifted_by_its_own_clock() -> None:
    """A camera that counts from its start beside one on the recorder's clock."""
    clocks, boot = CameraClocks(), 5000 * 10**9
    lag = START_NS - boot
    assert clocks.lag_ns("/lidar/camera_info", START_NS - 3 * MS, START_NS) == 0
    assert clocks.lag_ns("/cam/image_raw", boot, START_NS) == lag
    # Recorded a little later with the image's stamp: it keeps it.
    assert clocks.lag_ns("/cam/camera_info", boot, START_NS + 7 * MS) == lag
    assert clocks.lag_ns("/lidar/camera_info", START_NS + 90 * MS, START_NS + 93 * MS) == 0
    # The camera's clock is set to the right time in between, and the lidar's is not.
    assert clocks.lag_ns("/cam/image_raw", START_NS + 99 * MS, START_NS + 100 * MS) == 0


def test_ages_of_two_clocks_are_those_of_the_recording(tmp_path: Path) -> None:
    from bag_mutations import SilentNode

    from unirestore_ros.recordings.play import Pace, Player, make_playlist

    boot = 5000 * 10**9
    maker = BagMaker(tmp_path / "drive", "mcap")
    with maker.writer:
        for index in range(3):
            now = START_NS + index * 100 * MS
            maker.info("/lidar/camera_info", now, now - 2 * MS)
            maker.info("/cam/camera_info", now + MS, boot + index * 100 * MS)
            maker.image("/cam/image_raw", now, street(index), stamp_ns=boot + index * 100 * MS)
    node: Any = SilentNode()
    ages: dict[str, list[float]] = {}
    stamps: dict[str, list[int]] = {}

    def sent(topic: str, bag_ns: int, due_ns: int) -> None:
        header = read_header(node.sent[-1])
        assert header is not None
        ages.setdefault(topic, []).append((due_ns - header.stamp_ns) * 1e-9)
        stamps.setdefault(topic, []).append(header.stamp_ns)

    with open_reader(tmp_path / "drive") as reader:
        Player(node, make_playlist(reader, node), Pace(rate=10.0, restamp=True), sent=sent).play()
    assert set(ages) == {"/lidar/camera_info", "/cam/camera_info", "/cam/image_raw"}
    assert all(abs(age) < 0.01 for each in ages.values() for age in each)
    assert stamps["/cam/camera_info"] == stamps["/cam/image_raw"]


def test_names_with_signs_that_mean_something_in_a_uri(tmp_path: Path) -> None:
    drive = make_drive(tmp_path / "drive", FRAMES)
    assert read_all(drive.rename(tmp_path / "50% of drive #1?"), tmp_path) == MESSAGES


def test_a_named_pipe_is_no_bag(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mcap")
    with (
        pytest.raises(RecordingError, match="neither a file nor a folder"),
        open_reader(tmp_path / "pipe.mcap"),
    ):
        pass


def test_what_rosbags_reads_of_a_whole_bag_is_read_alike(tmp_path: Path) -> None:
    for storage in ("sqlite3", "mcap"):
        drive = make_drive(tmp_path / storage, FRAMES, storage)
        with RosbagsReader(drive) as reader:
            wanted = [(c.topic, when, bytes(data)) for c, when, data in reader.messages()]
        assert all_messages(drive) == wanted
        with open_reader(drive) as ours:
            first = ours.start_time
            some = [when for _, when, _ in ours.messages((), first + MS, first + 101 * MS)]
        assert some == [when for _, when, _ in wanted if first + MS <= when < first + 101 * MS]


def test_the_lock_follows_no_link(tmp_path: Path, miniature: Path) -> None:
    """Who can write beside OUT must not choose a file that is emptied."""
    drive = make_drive(tmp_path / "drive", 1)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".out.restoring").mkdir()
    lock = tmp_path / ".out.restoring" / "lock"
    lock.symlink_to(victim)
    words = ["restore", "--bundle", str(miniature), str(drive), str(tmp_path / "out")]
    assert main(words) == 1
    assert victim.read_text() == "precious"
    lock.unlink()
    (tmp_path / ".out.restoring" / "segments").symlink_to(tmp_path / "drive")
    before = sorted(path.name for path in drive.iterdir())
    assert main(words) == 1
    assert sorted(path.name for path in drive.iterdir()) == before


@pytest.mark.skipif(not SHARED_CASES.is_file(), reason="the shared cases are not beside this")
def test_the_shared_cases(
    tmp_path: Path, miniature: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = importlib.util.spec_from_file_location("make_cases", SHARED_CASES)
    assert spec is not None and spec.loader is not None
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    cases.main(tmp_path / "cases")
    shutil.copytree(miniature, tmp_path / "bundle")
    frames = {"one_truncated": 9, "cut_in_half": 5}
    others = {"depth_first": 20, "two_clocks": 10}
    for folder in sorted((tmp_path / "cases").iterdir()):
        work = tmp_path / folder.name
        work.mkdir()
        wanted = frames.get(folder.name, 10)
        with open_reader(folder) as reader:
            assert [c.topic for c in find_cameras(reader)] == ["/cam/image_raw"]
            infos = sum(c.msgcount for c in reader.connections if c.topic == "/cam/camera_info")
        counts = {
            "source": wanted,
            "compare": wanted,
            "play": wanted + infos + others.get(folder.name, 0),
        }
        for tool, count in counts.items():
            caplog.clear()
            assert TOOLS[tool](folder, work) == count, (folder.name, tool)
            assert len(warnings(caplog)) == (folder.name in WARNED), (folder.name, tool)
        check_restored(folder, work, wanted, caplog)


WARNED = ("short_duration", "late_start", "one_truncated", "cut_in_half")
"""The shared cases of which each tool says one thing."""


def check_restored(folder: Path, work: Path, wanted: int, caplog: pytest.LogCaptureFixture) -> None:
    """`bag restore` gives an image and features with their CameraInfo for each frame."""
    caplog.clear()
    restore(folder, work)
    assert len(warnings(caplog)) == (folder.name in WARNED), folder.name
    made: dict[str, list[bytes]] = {}
    for topic, _, data in all_messages(work / "restored"):
        made.setdefault(topic, []).append(data)
    copied = {topic for topic, _, _ in all_messages(folder)}
    assert copied <= made.keys()
    assert all(topic.startswith("/unirestore/") for topic in made.keys() - copied)
    for topic in ("image", "detection/features", "detection/camera_info"):
        assert len(made[f"/unirestore/{topic}"]) == wanted, (folder.name, topic)
    # 96x72 frames are worked on at 64x48, of which a map's pixel covers 8: 12 of the frame's. The
    # focal length is 100 pixels of the frame, whatever size the CameraInfo itself is of.
    info = read_info(made["/unirestore/detection/camera_info"][0])
    assert (info.width, info.height) == (8, 6)
    assert info.k[0] == pytest.approx(100 / 12) and info.k[4] == pytest.approx(100 / 12)
