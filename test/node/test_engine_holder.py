"""The engine that the node runs: what it takes, lacks and computes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from ros_miniature import HEIGHT, WIDTH, expected_features, expected_image, write_miniature
from ros_miniature import frame as scene
from ros_station import image

from unirestore_ros.engine import BundleError, EngineOutput
from unirestore_ros.msgs.camera_frame import CameraFrame, read_frame
from unirestore_ros.node.engine_holder import EngineHolder
from unirestore_ros.node.parameters import Parameters


def frame(width: int = WIDTH, height: int = HEIGHT, encoding: str = "rgb8") -> CameraFrame:
    message = image(np.zeros((height, width, 3), np.uint8), encoding)
    return read_frame(serialize_message(message), False, 0.0, 0)


def named(folder: Path) -> Parameters:
    return dataclasses.replace(Parameters(), bundle=str(folder))


@pytest.fixture
def holder(miniature: Path) -> Iterator[EngineHolder]:
    holder = EngineHolder()
    holder.open(named(miniature))
    yield holder
    holder.close()


def test_open(holder: EngineHolder) -> None:
    assert holder.state.problem is None and holder.state.bundle == "miniature"
    assert holder.state.why_not(frame()) is None
    assert holder.state.missing(("segmentation", "detection")) is None


def test_a_size_out_of_range_is_named_with_the_reason(holder: EngineHolder) -> None:
    assert holder.state.why_not(frame(80, 60)) is None
    assert holder.state.why_not(frame(80, 16)) == (
        "frames are 80x16: the longer side is over 4 times the shorter"
    )


def test_another_encoding_is_named(holder: EngineHolder) -> None:
    assert "encoding '32FC3' is depth" in str(holder.state.why_not(frame(encoding="32FC3")))


def test_missing_tasks_are_named_with_the_command(holder: EngineHolder, miniature: Path) -> None:
    assert holder.state.missing(("detection", "lane_marks", "parking")) == (
        "the bundle miniature has no prompt for lane_marks, parking: python -m unirestore_ros build"
        f" --add-prompt lane_marks=FILE --add-prompt parking=FILE {miniature}"
    )


def test_a_refused_bundle_leaves_the_one_before(holder: EngineHolder, tmp_path: Path) -> None:
    before, engine = holder.state, holder.engine
    with pytest.raises(BundleError):
        holder.open(named(tmp_path / "nowhere"))
    assert holder.state is before and holder.engine is engine


def test_without_a_bundle_every_frame_is_refused(tmp_path: Path) -> None:
    holder = EngineHolder()
    with pytest.raises(BundleError):
        holder.open(named(tmp_path / "nowhere"))
    assert "there is no such folder" in str(holder.state.problem)
    assert holder.engine is None
    assert holder.state.why_not(frame()) == holder.state.problem
    assert holder.state.missing(("detection",)) is None


def test_the_drivers_prompt_is_needed(tmp_path: Path) -> None:
    folder = write_miniature(tmp_path / "machines", tasks=("segmentation",))
    with pytest.raises(BundleError, match=r"no prompt for perception; fix: .*--add-prompt"):
        EngineHolder().open(named(folder))


def test_a_new_bundle_takes_the_place(holder: EngineHolder, tmp_path: Path) -> None:
    holder.open(named(write_miniature(tmp_path / "larger", size=(80, 64))))
    assert holder.state.bundle == "miniature"
    assert holder.state.folder == str(tmp_path / "larger")
    assert holder.state.sizes is not None and holder.state.sizes.working_size == (80, 64)


def test_outputs_come_in_the_order_in_which_they_were_asked_for(holder: EngineHolder) -> None:
    assert holder.engine is not None
    rgb = scene(seed=1)
    outputs = [EngineOutput("features", "detection"), EngineOutput("image", "perception")]
    seen = {output: array.copy() for output, array in holder.engine.run(rgb, outputs)}
    assert list(seen) == outputs
    np.testing.assert_allclose(seen[outputs[0]], expected_features(rgb, "detection"), atol=1e-3)
    np.testing.assert_array_equal(seen[outputs[1]], expected_image(rgb))
