"""What the node does with a frame that the guard refuses; the miniature makes negatives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ros_fixtures
from diagnostic_msgs.msg import DiagnosticArray
from ros_miniature import HEIGHT, WIDTH
from ros_process import NodeProcess
from ros_station import Station, image, stamp_of, values_of
from sensor_msgs.msg import Image

from unirestore_ros.synthetic.drive import demo_frames

# The guard is calibrated on streets: of a pattern of bars it might take the negative for faithful.
STREET = next(iter(demo_frames(40, (WIDTH, HEIGHT)))).clean
STREET[0, 0] = 0  # asks the miniature for nothing


@pytest.fixture(scope="module")
def node(start_node: ros_fixtures.StartNode, miniature: Path) -> NodeProcess:
    return start_node(f"bundle:={miniature}", *ros_fixtures.PATIENT)


@pytest.fixture(autouse=True)
def guarded(station: Station) -> Iterator[None]:
    """The guard is switched on after the node has restored its first frame."""
    station.set_parameters(guard=True)
    yield
    station.set_parameters(guard=False)


def test_a_refused_frame_is_the_cameras_and_has_no_features(station: Station) -> None:
    driver = station.subscribe("image")
    status = station.subscribe("status", DiagnosticArray)
    scores = station.subscribe("guard")
    features = station.subscribe("segmentation/features")
    sent = image(STREET, "rgb8")
    answer = station.exchange(sent, driver, scores, status)
    assert bytes(answer.data) == bytes(sent.data)
    station.wait(lambda: len(driver.messages) > 4 or not station.send(sent), "more frames")
    others = [one for one in driver.messages if bytes(one.data) != bytes(sent.data)]
    assert not [(stamp_of(one) - stamp_of(answer)) * 1e-6 for one in others], "ms after the answer"
    assert all(values_of(report.status[0])["mode"] == "camera" for report in status.messages)
    coarse: Image = scores.messages[-1]
    assert coarse.encoding == "mono8"
    assert max(coarse.data) >= 128
    assert not features.messages
    station.diagnosis(lambda s: int(values_of(s)["dropped_refused_by_guard"]) > 2, "refusals")


def test_the_mode_follows_refusals_and_the_parameter(station: Station) -> None:
    driver = station.subscribe("image")
    sent = image(STREET, "rgb8")
    station.exchange(sent, driver)

    def frames_until(said: str) -> None:
        station.diagnosis(lambda s: said in s.message or not station.send(sent), said)

    frames_until("the guard refused 3 frames within a second")
    station.set_parameters(guard=False)

    def is_restored() -> bool:
        station.send(sent)
        station.pause(0.1)
        return bytes(driver.messages[-1].data) != bytes(sent.data)

    station.wait(is_restored, "restored frames without the guard")
