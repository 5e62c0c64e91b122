"""A rosbag2 as INPUT, in both storages, raw and compressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.sources import open_source

rosbag2 = pytest.importorskip("rosbags.rosbag2", reason="rosbags is not installed")
typesys = pytest.importorskip("rosbags.typesys")

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
STORAGES = [rosbag2.StoragePlugin.SQLITE3, rosbag2.StoragePlugin.MCAP]
START_NS = 1_700_000_000_000_000_000
MS = 1_000_000


class BagMaker:
    """Writes small bags of 8x6 images, one grey level each."""

    def __init__(self, folder: Path, storage: Any) -> None:
        self.types = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
        self.writer = rosbag2.Writer(folder, version=9, storage_plugin=storage)
        self.connections: dict[str, Any] = {}

    def header(self, stamp_ns: int) -> Any:
        stamp = self.types.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
        return self.types.types["std_msgs/msg/Header"](stamp, "camera")

    def raw(self, topic: str, stamp_ns: int, encoding: str, pixels: np.ndarray, step: int) -> None:
        image = self.types.types[RAW]
        height, width = pixels.shape[:2]
        rows = np.zeros((height, step), np.uint8)
        rows[:, : pixels[0].size] = pixels.reshape(height, -1)
        message = image(self.header(stamp_ns), height, width, encoding, 0, step, rows.reshape(-1))
        self.write(topic, RAW, message, stamp_ns)

    def jpeg(self, topic: str, stamp_ns: int, pixels: np.ndarray) -> None:
        _, content = cv2.imencode(".jpg", pixels)
        message = self.types.types[COMPRESSED](self.header(stamp_ns), "jpeg", content.reshape(-1))
        self.write(topic, COMPRESSED, message, stamp_ns)

    def write(self, topic: str, kind: str, message: Any, stamp_ns: int) -> None:
        if topic not in self.connections:
            self.connections[topic] = self.writer.add_connection(topic, kind, typestore=self.types)
        data = self.types.serialize_cdr(message, kind)
        self.writer.write(self.connections[topic], stamp_ns + 5 * MS, data)


def level(value: int) -> np.ndarray:
    return np.full((6, 8, 3), value, np.uint8)


@pytest.mark.parametrize("storage", STORAGES, ids=lambda storage: storage.name.lower())
def test_raw_images_with_their_relative_stamps(tmp_path: Path, storage: Any) -> None:
    maker = BagMaker(tmp_path / "bag", storage)
    with maker.writer:
        red = np.zeros((6, 8, 3), np.uint8)
        red[..., 0] = 250
        maker.raw("/front/image_raw", START_NS, "rgb8", red, 24)
        maker.raw("/front/image_raw", START_NS + 33 * MS, "bgr8", level(20), 32)
        maker.raw("/front/image_raw", START_NS + 90 * MS, "mono8", level(30)[..., 0], 8)
    source = open_source(tmp_path / "bag")
    assert source.length == 3
    frames = list(source.frames())
    assert [frame.offset_ns for frame in frames] == [0, 33 * MS, 90 * MS]
    assert frames[0].image[0, 0].tolist() == [0, 0, 250]
    assert (frames[1].image == 20).all() and (frames[2].image == 30).all()
    assert len(list(source.frames())) == 3


@pytest.mark.parametrize("storage", STORAGES, ids=lambda storage: storage.name.lower())
def test_compressed_images(tmp_path: Path, storage: Any) -> None:
    maker = BagMaker(tmp_path / "bag", storage)
    with maker.writer:
        maker.jpeg("/front/image_raw/compressed", START_NS, level(100))
    (frame,) = open_source(tmp_path / "bag").frames()
    assert frame.image.shape == (6, 8, 3)
    assert np.allclose(frame.image, 100, atol=2)


@pytest.fixture
def two_cameras(tmp_path: Path) -> Path:
    maker = BagMaker(tmp_path / "bag", STORAGES[0])
    with maker.writer:
        maker.raw("/rear/image_raw", START_NS, "bgr8", level(1), 24)
        maker.raw("/front/image_raw", START_NS, "bgr8", level(2), 24)
    return tmp_path / "bag"


def test_first_image_topic_unless_one_is_chosen(two_cameras: Path) -> None:
    (frame,) = open_source(two_cameras).frames()
    assert (frame.image == 1).all()
    (frame,) = open_source(two_cameras, "/front/image_raw").frames()
    assert (frame.image == 2).all()


def test_a_file_of_the_bag_means_the_bag(two_cameras: Path) -> None:
    (file,) = two_cameras.glob("*.db3")
    assert open_source(file).length == 1


def test_topic_that_is_not_there_names_those_that_are(two_cameras: Path) -> None:
    with pytest.raises(RecordingError, match=r"no images on /left, but on /rear/image_raw, /front"):
        open_source(two_cameras, "/left")


def test_stamp_of_zero_means_the_time_of_recording(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "bag", STORAGES[0])
    with maker.writer:
        for offset in (0, 50 * MS):
            maker.raw("/camera", offset, "bgr8", level(1), 24)
    first, second = open_source(tmp_path / "bag").frames()
    assert (first.offset_ns, second.offset_ns) == (0, 45 * MS)


def test_encoding_that_no_camera_has_is_named(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "bag", STORAGES[0])
    with maker.writer:
        maker.raw("/depth", START_NS, "16UC1", np.zeros((6, 8, 2), np.uint8), 16)
    with pytest.raises(RecordingError, match="16UC1"):
        list(open_source(tmp_path / "bag").frames())


def test_bag_without_images_is_refused(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "bag", STORAGES[0])
    with maker.writer:
        message = maker.types.types["std_msgs/msg/String"]("hello")
        maker.write("/chatter", "std_msgs/msg/String", message, START_NS)
    with pytest.raises(RecordingError, match="no topic of sensor_msgs/Image"):
        open_source(tmp_path / "bag")


def test_a_file_with_nothing_in_it_is_refused_with_the_command_that_may_help(
    tmp_path: Path,
) -> None:
    (tmp_path / "lone.db3").write_bytes(b"")
    with pytest.raises(RecordingError, match=r"lone\.db3 is empty .*sqlite3 lone\.db3 \.recover"):
        open_source(tmp_path / "lone.db3")


def test_metadata_of_something_else_are_warned_of_and_not_needed(
    two_cameras: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (two_cameras / "metadata.yaml").write_text("not: a bag")
    (frame,) = open_source(two_cameras).frames()
    assert (frame.image == 1).all()
    assert "metadata.yaml is damaged or is none of a bag" in caplog.text
