"""The node with the bundle that is shipped, on frames of a drive that training never saw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ros_fixtures import PATIENT, StartNode
from ros_process import NodeProcess
from ros_station import Inbox, Station, image, values_of
from sensor_msgs.msg import Image

from unirestore_ros.engine import Engine, open_engine
from unirestore_ros.synthetic.drive import DemoFrame, demo_frames

pytestmark = [pytest.mark.dds, pytest.mark.slow]

TASKS = ("segmentation", "detection")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """The same bundle beside the node."""
    with open_engine("tiny", "onnxruntime") as engine:
        yield engine


@pytest.fixture(scope="module")
def frames(engine: Engine) -> list[DemoFrame]:
    """One of each stretch."""
    return list(demo_frames(5))


@pytest.fixture(scope="module")
def node(start_node: StartNode) -> NodeProcess:
    """By the bundle's name, which is the default."""
    return start_node("backend:=onnxruntime", *PATIENT)


@pytest.fixture(scope="module")
def first_frame(frames: list[DemoFrame]) -> Image:
    return image(frames[0].degraded, "rgb8")


def pixels_of(answer: Image) -> np.ndarray:
    return np.frombuffer(answer.data, np.uint8).reshape(answer.height, answer.width, 3)


def error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean((a.astype(float) - b) ** 2))


def test_the_picture_is_the_engines_and_better_than_the_cameras(
    station: Station, engine: Engine, frames: list[DemoFrame]
) -> None:
    out = station.subscribe("image")
    before, after = 0.0, 0.0
    for frame in frames:
        answer = station.exchange(image(frame.degraded, "rgb8"), out)
        engine.run_trunk(frame.degraded)
        np.testing.assert_array_equal(pixels_of(answer), engine.decode("perception"))
        before += error(frame.degraded, frame.clean)
        after += error(pixels_of(answer), frame.clean)
    assert after < before


def test_features_are_the_engines(
    station: Station, engine: Engine, frames: list[DemoFrame]
) -> None:
    """Both tasks' features of one frame; they differ, as their prompts do."""
    inboxes = {task: station.subscribe(f"{task}/features") for task in TASKS}
    last = station.exchange(image(frames[0].degraded, "rgb8"), inboxes[TASKS[-1]])
    stamp = last.header.stamp
    station.wait(lambda: all(stamp in stamps(inbox) for inbox in inboxes.values()), "both tasks")
    engine.run_trunk(frames[0].degraded)
    seen = {}
    for task, inbox in inboxes.items():
        answer = next(one for one in inbox.messages if one.header.stamp == stamp)
        height, width, channels = engine.feature_shape
        assert (answer.height, answer.width) == (height, width)
        assert answer.encoding == f"32FC{channels}"
        seen[task] = np.frombuffer(answer.data, np.float32).reshape(engine.feature_shape)
        np.testing.assert_array_equal(seen[task], engine.adapt(task))
    assert not np.allclose(seen["segmentation"], seen["detection"])


def stamps(inbox: Inbox) -> list:
    return [message.header.stamp for message in inbox.messages]


def test_no_frame_is_missed_when_the_cameras_size_changes(
    station: Station, frames: list[DemoFrame]
) -> None:
    """The first of another size, for which the engine has to get ready, is the camera's own."""
    out = station.subscribe("image")
    station.exchange(image(frames[0].degraded, "rgb8"), out)
    small = frames[1].degraded[:120, :160]
    stamp = station.send(image(small, "rgb8"))
    answer = station.wait(lambda: out.of(stamp), "the first of another size", limit_s=10)
    np.testing.assert_array_equal(pixels_of(answer), small)


def test_it_runs_without_pytorch(station: Station, node: Any) -> None:
    status = station.diagnosis(lambda s: True, "any")
    assert values_of(status)["backend"] == "onnxruntime"
    assert values_of(status)["bundle"] == "tiny"
    assert "libtorch" not in Path(f"/proc/{node.process.pid}/maps").read_text()
