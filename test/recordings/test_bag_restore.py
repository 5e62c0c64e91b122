"""`bag restore`: the node's topics beside everything else, which stays byte for byte."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_maker import (
    FOCAL,
    IMAGE,
    MS,
    START_NS,
    BagMaker,
    make_drive,
    messages,
    metadata,
    street,
)
from ros_miniature import STRIDE, expected_features, expected_image
from rosbags.highlevel import AnyReader

from unirestore_ros.engine import open_engine
from unirestore_ros.recordings.bag_command import main
from unirestore_ros.recordings.frames import FrameRestorer

CAMERA = "/camera/image_raw"
MADE = [
    "/unirestore/image",
    "/unirestore/camera_info",
    "/unirestore/segmentation/features",
    "/unirestore/segmentation/camera_info",
    "/unirestore/detection/features",
    "/unirestore/detection/camera_info",
]


Restore = Callable[..., int]


@pytest.fixture
def restore(miniature: Path) -> Restore:
    """`bag restore` with the miniature bundle, unless another is given."""

    def run(*words: object) -> int:
        return main(["restore", "--bundle", str(miniature), *map(str, words)])

    return run


def read(folder: Path, topic: str) -> list[Any]:
    with AnyReader([folder]) as reader:
        wanted = [each for each in reader.connections if each.topic == topic]
        return [reader.deserialize(data, c.msgtype) for c, _, data in reader.messages(wanted)]


def topics_of(folder: Path) -> list[str]:
    return list(dict.fromkeys(each[0] for each in messages(folder)))


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_a_bag_keeps_all_it_had_and_gains_the_nodes_topics(
    restore: Restore, tmp_path: Path, storage: str
) -> None:
    drive = make_drive(tmp_path / "drive", 2, storage)
    out = tmp_path / "out"
    assert restore(drive, out) == 0
    before, after = messages(drive), messages(out)
    assert [each for each in after if each[0] not in MADE] == before
    assert {each[0] for each in after} - {each[0] for each in before} == set(MADE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drive", "out"]
    assert next(iter(out.glob("out.*"))).suffix == (".db3" if storage == "sqlite3" else ".mcap")
    for index, (image, feature, info) in enumerate(
        zip(*(read(out, MADE[made]) for made in (0, 2, 3)), strict=True)
    ):
        rgb = street(index)[..., ::-1]
        assert np.array_equal(image.data.reshape(rgb.shape), expected_image(rgb)[..., ::-1])
        wanted = expected_features(rgb, "segmentation")
        assert feature.encoding == "32FC3"
        found = feature.data.view(np.float32).reshape(wanted.shape)
        assert np.allclose(found, wanted, atol=0.1)
        header = str(read(drive, CAMERA)[index].header)
        assert str(image.header) == str(feature.header) == str(info.header) == header
        assert info.k[0] == pytest.approx(FOCAL / STRIDE)


def test_the_shipped_bundle_makes_of_a_frame_what_the_engine_makes(tmp_path: Path) -> None:
    drive = make_drive(tmp_path / "drive", 1, size=(480, 360))
    assert main(["restore", str(drive), str(tmp_path / "out")]) == 0
    (image,) = read(tmp_path / "out", MADE[0])
    (feature,) = read(tmp_path / "out", MADE[4])
    with open_engine("tiny") as engine:
        engine.run_trunk(np.ascontiguousarray(street(0, (480, 360))[..., ::-1]))
        assert np.array_equal(
            image.data.reshape(360, 480, 3)[..., ::-1], engine.decode("perception")
        )
        assert np.array_equal(feature.data.view(np.float32), engine.adapt("detection").reshape(-1))


def test_outputs_stand_at_the_time_of_their_frame(restore: Restore, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert restore(make_drive(tmp_path / "drive", 2), out, "--tasks", "detection") == 0
    times = {each[0]: each[3] for each in messages(out) if each[3] < START_NS + 60 * MS}
    assert times["/unirestore/image"] == times["/unirestore/detection/features"] == START_NS
    assert "/unirestore/segmentation/features" not in times


def test_bags_of_humble_with_types_that_nobody_knows(restore: Restore, tmp_path: Path) -> None:
    """They hold no definitions: schema 3 of sqlite3, metadata of version 5."""
    drive = make_drive(tmp_path / "drive", 1, version=8)
    with sqlite3.connect(drive / "drive.db3") as database:
        database.execute("DROP TABLE message_definitions")
        database.execute("ALTER TABLE topics DROP COLUMN type_description_hash")
        database.execute("UPDATE schema SET schema_version = 3")
    text = (drive / "metadata.yaml").read_text().replace("version: 8", "version: 5")
    lines = iter(text.splitlines())
    kept = [line for line in lines if "type_description_hash" not in line]
    kept = [line for line in kept if not line.strip().startswith("RIHS01")]
    (drive / "metadata.yaml").write_text("\n".join(kept) + "\n")
    out = tmp_path / "out"
    assert restore(drive, out) == 0
    assert [each for each in messages(out) if each[0] not in MADE] == messages(drive)
    assert "version: 8" in (out / "metadata.yaml").read_text()
    assert len(read(out, "/unirestore/image")) == 1  # readers take the result


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_what_was_interrupted_goes_on_and_ends_alike(
    restore: Restore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    drive = make_drive(tmp_path / "drive", 4)
    assert restore(drive, tmp_path / "whole" / "out") == 0
    genuine = FrameRestorer.restore
    numbers: list[int] = []

    def interrupted(self: FrameRestorer, number: int, *rest: Any) -> Any:
        if number == kept:
            raise KeyboardInterrupt
        return genuine(self, number, *rest)

    def counted(self: FrameRestorer, number: int, *rest: Any) -> Any:
        numbers.append(number)
        return genuine(self, number, *rest)

    monkeypatch.setattr(FrameRestorer, "restore", interrupted)
    assert restore(drive, tmp_path / "out") == 130
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(FrameRestorer, "restore", counted)
    assert restore(drive, tmp_path / "out") == 0
    assert numbers == list(range(kept, 4))
    assert messages(tmp_path / "out") == messages(tmp_path / "whole" / "out")
    assert metadata(tmp_path / "out") == metadata(tmp_path / "whole" / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drive", "out", "whole"]


def test_unfinished_work_of_another_command_is_not_mixed_in(
    restore: Restore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    drive = make_drive(tmp_path / "drive", 2)
    genuine = FrameRestorer.restore

    def interrupted(self: FrameRestorer, number: int, *rest: Any) -> Any:
        if number == 1:
            raise KeyboardInterrupt
        return genuine(self, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(FrameRestorer, "restore", interrupted)
        assert restore(drive, tmp_path / "out") == 130
    assert restore(drive, tmp_path / "out", "--tasks", "detection") == 1
    assert "another command (other: outputs)" in caplog.text and "--anew" in caplog.text
    assert restore(drive, tmp_path / "out", "--tasks", "detection", "--anew") == 0
    assert "/unirestore/segmentation/features" not in topics_of(tmp_path / "out")


def test_a_result_that_is_there_is_neither_made_again_nor_overwritten(
    restore: Restore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    drive, out = make_drive(tmp_path / "drive", 1), tmp_path / "out"
    assert restore(drive, out) == 0
    made = (out / "metadata.yaml").stat().st_mtime_ns
    assert restore(drive, out) == 0
    assert "is there already, of this very bag" in caplog.text
    assert (out / "metadata.yaml").stat().st_mtime_ns == made
    assert restore(drive, out, "--tasks", "detection") == 1
    assert "out exists, and is no result of this bag and command" in caplog.text


def test_several_cameras_have_the_namespaces_that_the_launch_file_gives(
    restore: Restore, tmp_path: Path
) -> None:
    maker = BagMaker(tmp_path / "drive")
    with maker.writer:
        for number, topic in enumerate(("/camera/front/image_raw", "/camera/rear/image_raw")):
            maker.image(topic, START_NS, street(number))  # of one time
        maker.info("/camera/rear/camera_info", START_NS + MS, START_NS)
        depth = np.zeros((48, 64), np.uint16)
        maker.image("/camera/depth", START_NS, depth, "16UC1")
        maker.jpeg("/camera/front/image_raw/compressed", START_NS, street(0))
    out = tmp_path / "out"
    assert restore(tmp_path / "drive", out, "--tasks", "") == 0
    made = {t for t in topics_of(out) if "unirestore" in t}
    assert made == {
        "/front/unirestore/image",
        "/rear/unirestore/image",
        "/rear/unirestore/camera_info",
    }
    (front,), (rear,) = (read(out, f"/{name}/unirestore/image") for name in ("front", "rear"))
    assert not np.array_equal(front.data, rear.data)
    named = tmp_path / "named"
    words = "--tasks", "", "--cameras", "a:/camera/front/image_raw,b:/camera/rear/image_raw"
    assert restore(tmp_path / "drive", named, *words) == 0
    assert {"/a/unirestore/image", "/b/unirestore/image"} <= set(topics_of(named))


def test_a_compressed_camera_gets_a_compressed_image(restore: Restore, tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive")
    with maker.writer:
        maker.jpeg("/camera/image_raw/compressed", START_NS, street(0))
    assert restore(tmp_path / "drive", tmp_path / "out") == 0
    made = {topic for topic in topics_of(tmp_path / "out") if "unirestore" in topic}
    assert made == {
        "/unirestore/image/compressed",
        "/unirestore/segmentation/features",
        "/unirestore/detection/features",
    }


def test_a_camera_of_any_size_keeps_it(restore: Restore, tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive")
    with maker.writer:
        maker.image(CAMERA, START_NS, street(0, (160, 90)))
        maker.info("/camera/camera_info", START_NS, START_NS)
    assert restore(tmp_path / "drive", tmp_path / "out") == 0
    (image,) = read(tmp_path / "out", "/unirestore/image")
    assert (image.width, image.height) == (160, 90)
    (info,) = read(tmp_path / "out", "/unirestore/camera_info")
    assert info.k[0] == FOCAL


def test_a_size_out_of_range_is_refused_with_the_reason(
    restore: Restore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    maker = BagMaker(tmp_path / "drive")
    with maker.writer:
        maker.image(CAMERA, START_NS, street(0, (160, 20)))
    assert restore(tmp_path / "drive", tmp_path / "out") == 1
    assert f"{CAMERA}: frames are 160x20: the longer side is over 4 times" in caplog.text


def test_frames_that_cannot_be_read_are_copied_and_reported(
    restore: Restore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    maker = BagMaker(tmp_path / "drive")
    with maker.writer:
        maker.image(CAMERA, START_NS, street(0))
        message = maker.types.types[IMAGE](
            maker.header(START_NS, "camera"), 48, 64, "bgr8", 0, 192, np.zeros(9, np.uint8)
        )
        maker.write(CAMERA, IMAGE, START_NS + MS, message)
        maker.image(CAMERA, START_NS + 2 * MS, street(0, (32, 12)))
    assert restore(tmp_path / "drive", tmp_path / "out", "--tasks", "") == 0
    counts = itertools.groupby(sorted(each[0] for each in messages(tmp_path / "out")))
    assert {topic: len(list(each)) for topic, each in counts} == {
        CAMERA: 3,
        "/unirestore/image": 1,
    }
    assert "9 bytes of data" in caplog.text and "frames are 32x12" in caplog.text


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--topic", "/rear"], "no images on /rear, but on /camera/image_raw"),
        (["--tasks", "parking"], "has no task 'parking'"),
        (["--cameras", "front"], "is not NAME:IMAGE_TOPIC"),
        (["--bundle", "absent"], "bundle absent"),
        (["--jobs", "2"], "are for many bags"),
    ],
)
def test_what_cannot_be_done_is_reported(
    restore: Restore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    words: list[str],
    reason: str,
) -> None:
    drive = make_drive(tmp_path / "drive", 1)
    assert restore(drive, tmp_path / "out", *words) == 1
    assert reason in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drive"]


def test_topics_that_are_there_already_are_not_written_twice(
    restore: Restore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    maker = BagMaker(tmp_path / "drive")
    with maker.writer:
        maker.image(CAMERA, START_NS, street(0))
        maker.image("/unirestore/image", START_NS + MS, street(1))
    assert restore(tmp_path / "drive", tmp_path / "out", "--tasks", "") == 1
    assert "/unirestore/image already" in caplog.text
    out = tmp_path / "again"
    words = "--tasks", "", "--name", "again", "--topic", CAMERA
    assert restore(tmp_path / "drive", out, *words) == 0
    assert "/again/image" in topics_of(out)
