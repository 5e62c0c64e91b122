"""The node with the bundle that is shipped, on frames of a drive that training never saw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from clean_frames import LEAST_DB, LEAST_ENERGY, SIZES, clean_scene, laplacian_energy
from diagnostic_msgs.msg import DiagnosticArray
from ros_fixtures import PATIENT, StartNode
from ros_process import NodeProcess
from ros_station import Inbox, Station, camera_info, image, values_of
from sensor_msgs.msg import CameraInfo, Image

from unirestore_ros.engine import Engine, open_engine
from unirestore_ros.engine.working_size import Size, aspect_error
from unirestore_ros.evaluate.metrics import psnr
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
    """By the bundle's name, which is the default; with the guard, as on a vehicle."""
    return start_node("backend:=onnxruntime", "guard:=true", *PATIENT)


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
    station: Station, engine: Engine, frames: list[DemoFrame]
) -> None:
    """The first of another size, for which the engine has to get ready, is the camera's own, and
    then they are restored again."""
    out = station.subscribe("image")
    station.exchange(image(frames[0].degraded, "rgb8"), out)
    small = frames[1].degraded[:120, :160]
    stamp = station.send(image(small, "rgb8"))
    answer = station.wait(lambda: out.of(stamp), "the first of another size", limit_s=10)
    np.testing.assert_array_equal(pixels_of(answer), small)
    features = station.subscribe("segmentation/features")
    restored = station.exchange(image(small, "rgb8"), features, out)
    assert (restored.height, restored.width) == (30, 40)
    engine.run_trunk(small)
    picture = pixels_of(of_stamp(out, restored.header.stamp))
    np.testing.assert_array_equal(picture, engine.decode("perception"))


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    return clean_scene()


def of_size(scene: np.ndarray, size: Size) -> np.ndarray:
    """What a smaller camera sees of the scene's middle; the scene side by side for a larger one."""
    height, width = scene.shape[:2]
    if size[0] <= width and size[1] <= height:
        scale = min(width / size[0], height / size[1])
        across, down = round(size[0] * scale), round(size[1] * scale)
        left, top = (width - across) // 2, (height - down) // 2
        seen = scene[top : top + down, left : left + across]
        return np.asarray(cv2.resize(seen, size, interpolation=cv2.INTER_AREA), np.uint8)
    across, down = -(-size[0] // width), -(-size[1] // height)
    return np.ascontiguousarray(np.tile(scene, (down, across, 1))[: size[1], : size[0]])


@pytest.mark.parametrize("size", SIZES)
def test_a_clean_frame_of_any_size_is_restored(
    station: Station, scene: np.ndarray, size: Size
) -> None:
    """One node takes all of them, one after another: the image has the camera's size and detail,
    the feature map and its CameraInfo that of a working size of the same aspect."""
    clean = of_size(scene, size)
    images, status = station.subscribe("image"), station.subscribe("status", DiagnosticArray)
    features = station.subscribe("segmentation/features")
    infos = station.subscribe("segmentation/camera_info", CameraInfo)
    calibrations = station.subscribe("camera_info", CameraInfo)
    sent = camera_info(*size)
    station.send(sent, "camera_info")
    for _ in range(5):  # the image may overtake its CameraInfo, which is another topic's
        # Features are of restored frames only.
        inboxes = images, features, infos, calibrations, status
        restored = station.exchange(image(clean, "rgb8"), *inboxes)
        stamp = restored.header.stamp
        calibration = of_stamp(calibrations, stamp)
        if (calibration.width, calibration.height) == size:
            break
    assert (calibration.width, calibration.height) == size
    assert values_of(of_stamp(status, stamp).status[0])["mode"] == "restored"
    assert (restored.width, restored.height) == size
    assert psnr(pixels_of(restored), clean) >= LEAST_DB
    info, feature_map = of_stamp(infos, stamp), of_stamp(features, stamp)
    # A map's pixel covers 4 working pixels: the ratio of focal lengths tells the working size.
    working = tuple(
        round(4 * side * info.k[place] / sent.k[place])
        for side, place in zip(size, (0, 4), strict=True)
    )
    assert aspect_error(size, working) <= 0.02
    map_size = (feature_map.width, feature_map.height)
    assert map_size == (-(-working[0] // 4), -(-working[1] // 4)) == (info.width, info.height)
    if size[0] * size[1] > 480 * 360:
        assert laplacian_energy(pixels_of(restored)) >= LEAST_ENERGY * laplacian_energy(clean)
    else:
        assert working == size


def of_stamp(inbox: Inbox, stamp: Any) -> Any:
    return inbox.messages[stamps(inbox).index(stamp)]


def test_it_runs_without_pytorch(station: Station, node: Any) -> None:
    status = station.diagnosis(lambda s: True, "any")
    assert values_of(status)["backend"] == "onnxruntime"
    assert values_of(status)["bundle"] == "tiny"
    assert "libtorch" not in Path(f"/proc/{node.process.pid}/maps").read_text()
