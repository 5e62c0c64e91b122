"""The engine as the pipeline sees it: what it takes, lacks and computes."""

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

from unirestore_ros.engine import BundleError
from unirestore_ros.msgs.camera_frame import CameraFrame, read_frame
from unirestore_ros.node.inference import EngineOutput, Inference
from unirestore_ros.node.parameters import Parameters


def frame(width: int = WIDTH, height: int = HEIGHT, encoding: str = "rgb8") -> CameraFrame:
    message = image(np.zeros((height, width, 3), np.uint8), encoding)
    return read_frame(serialize_message(message), False, 0.0, 0)


def named(folder: Path) -> Parameters:
    return dataclasses.replace(Parameters(), bundle=str(folder))


@pytest.fixture
def inference(miniature: Path) -> Iterator[Inference]:
    inference = Inference()
    inference.open(named(miniature))
    yield inference
    inference.close()


def test_open(inference: Inference) -> None:
    assert inference.state.problem is None and inference.state.bundle == "miniature"
    assert inference.state.why_not(frame()) is None
    assert inference.state.missing(("segmentation", "detection")) is None


def test_another_size_is_named_with_the_command(inference: Inference) -> None:
    assert inference.state.why_not(frame(80, 60)) == (
        "frames are 80x60, the bundle miniature takes 64x48:"
        " python -m unirestore_ros build engines/miniature.yaml --size 80x60"
    )


def test_another_encoding_is_named(inference: Inference) -> None:
    assert "encoding '32FC3' is not one of" in str(inference.state.why_not(frame(encoding="32FC3")))


def test_missing_tasks_are_named_with_the_command(inference: Inference, miniature: Path) -> None:
    assert inference.state.missing(("detection", "lane_marks", "parking")) == (
        "the bundle miniature has no prompt for lane_marks, parking: python -m unirestore_ros build"
        f" --add-prompt lane_marks=FILE --add-prompt parking=FILE {miniature}"
    )


def test_a_refused_bundle_leaves_the_one_before(inference: Inference, tmp_path: Path) -> None:
    before = inference.state
    with pytest.raises(BundleError):
        inference.open(named(tmp_path / "nowhere"))
    assert inference.state is before
    assert list(inference.run(np.zeros((HEIGHT, WIDTH, 3), np.uint8), [])) == []


def test_without_a_bundle_every_frame_is_refused(tmp_path: Path) -> None:
    inference = Inference()
    with pytest.raises(BundleError):
        inference.open(named(tmp_path / "nowhere"))
    assert "there is no such folder" in str(inference.state.problem)
    with pytest.raises(ValueError, match="there is no engine"):
        next(inference.run(np.zeros((HEIGHT, WIDTH, 3), np.uint8), []))
    assert inference.state.why_not(frame()) == inference.state.problem
    assert inference.state.missing(("detection",)) is None


def test_the_drivers_prompt_is_needed(tmp_path: Path) -> None:
    folder = write_miniature(tmp_path / "machines", tasks=("segmentation",))
    with pytest.raises(BundleError, match=r"no prompt for perception; fix: .*--add-prompt"):
        Inference().open(named(folder))


def test_a_new_bundle_takes_the_place(inference: Inference, tmp_path: Path) -> None:
    inference.open(named(write_miniature(tmp_path / "larger", size=(80, 64))))
    assert inference.state.why_not(frame(80, 64)) is None
    assert inference.state.why_not(frame()) is not None


def test_outputs_come_in_the_order_in_which_they_were_asked_for(inference: Inference) -> None:
    rgb = scene(seed=1)
    outputs = [EngineOutput("features", "detection"), EngineOutput("image", "perception")]
    seen = {output: array.copy() for output, array in inference.run(rgb, outputs)}
    assert list(seen) == outputs
    np.testing.assert_allclose(seen[outputs[0]], expected_features(rgb, "detection"), atol=1e-3)
    np.testing.assert_array_equal(seen[outputs[1]], expected_image(rgb))
