"""The open bundle: what it takes, what it lacks, and what a refused bundle leaves behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from ros_miniature import HEIGHT, WIDTH, write_miniature
from ros_station import image

from unirestore_ros.engine import BundleError
from unirestore_ros.msgs.camera_frame import CameraFrame, read_frame
from unirestore_ros.node.bundle_holder import BundleHolder
from unirestore_ros.node.parameters import Parameters


def frame(width: int = WIDTH, height: int = HEIGHT, encoding: str = "rgb8") -> CameraFrame:
    message = image(np.zeros((height, width, 3), np.uint8), encoding)
    return read_frame(serialize_message(message), False, 0.0, 0)


def named(folder: Path) -> Parameters:
    return dataclasses.replace(Parameters(), bundle=str(folder))


@pytest.fixture
def holder(miniature: Path) -> Iterator[BundleHolder]:
    holder = BundleHolder()
    holder.open(named(miniature))
    yield holder
    holder.close()


def test_open(holder: BundleHolder) -> None:
    assert holder.engine is not None and holder.problem is None
    assert holder.unfit(frame()) is None
    assert holder.missing(("segmentation", "detection")) is None


def test_another_size_is_named_with_the_command(holder: BundleHolder) -> None:
    assert holder.unfit(frame(80, 60)) == (
        "frames are 80x60, the bundle miniature takes 64x48:"
        " python -m unirestore_ros build engines/miniature.yaml --size 80x60"
    )


def test_another_encoding_is_named(holder: BundleHolder) -> None:
    assert "encoding '32FC3' is not one of" in str(holder.unfit(frame(encoding="32FC3")))


def test_missing_tasks_are_named_with_the_command(holder: BundleHolder, miniature: Path) -> None:
    assert holder.missing(("detection", "lane_marks", "parking")) == (
        "the bundle miniature has no prompt for lane_marks, parking: python -m unirestore_ros build"
        f" --add-prompt lane_marks=FILE --add-prompt parking=FILE {miniature}"
    )


def test_a_refused_bundle_leaves_the_one_before(holder: BundleHolder, tmp_path: Path) -> None:
    before = holder.engine
    with pytest.raises(BundleError):
        holder.open(named(tmp_path / "nowhere"))
    assert holder.engine is before and holder.problem is None


def test_without_a_bundle_every_frame_is_unfit(tmp_path: Path) -> None:
    holder = BundleHolder()
    with pytest.raises(BundleError):
        holder.open(named(tmp_path / "nowhere"))
    assert holder.engine is None and "there is no such folder" in str(holder.problem)
    assert holder.unfit(frame()) == holder.problem
    assert holder.missing(("detection",)) is None


def test_the_drivers_prompt_is_needed(tmp_path: Path) -> None:
    folder = write_miniature(tmp_path / "machines", tasks=("segmentation",))
    with pytest.raises(BundleError, match=r"no prompt for perception; fix: .*--add-prompt"):
        BundleHolder().open(named(folder))


def test_a_new_bundle_takes_the_place(holder: BundleHolder, tmp_path: Path) -> None:
    before = holder.engine
    holder.open(named(write_miniature(tmp_path / "larger", size=(80, 64))))
    assert holder.engine is not before and holder.unfit(frame(80, 64)) is None
    assert holder.unfit(frame()) is not None
