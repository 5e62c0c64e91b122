"""The node's topics, and who listens to them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rclpy.context import Context
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import ReliabilityPolicy
from ros_station import Station
from sensor_msgs.msg import CompressedImage

from unirestore_ros.node.outputs import Demand, Outputs, TaskDemand
from unirestore_ros.node.parameters import Parameters

NOBODY = TaskDemand(features=False, camera_info=False, image=False)


@pytest.fixture
def node(context: Context) -> Iterator[LifecycleNode]:
    node = LifecycleNode("unirestore", namespace="/outputs", context=context)
    yield node
    node.destroy_node()


@pytest.fixture
def station(context: Context) -> Iterator[Station]:
    station = Station(context, "/outputs")
    yield station
    station.close()


def test_demand_follows_the_subscribers(node: LifecycleNode, station: Station) -> None:
    outputs = Outputs(node, Parameters())
    nobody = Demand(False, False, False, {"segmentation": NOBODY, "detection": NOBODY})
    assert outputs.demand() == nobody and not nobody.anything
    station.listen("detection/features")
    station.listen("image/compressed", CompressedImage)
    wanted = nobody._replace(
        compressed=True, tasks={**nobody.tasks, "detection": NOBODY._replace(features=True)}
    )
    station.wait(lambda: outputs.demand() == wanted, "both subscribers")
    station.let_go()
    station.wait(lambda: outputs.demand() == nobody, "nobody")
    outputs.destroy()


def test_topics_are_there_until_they_are_destroyed(node: LifecycleNode) -> None:
    parameters = Parameters(
        tasks=("detection",), publish_task_images=False, output_reliability="best_effort"
    )
    outputs = Outputs(node, parameters)
    mine = {
        name: node.get_publishers_info_by_topic(name)[0].qos_profile
        for name, _ in node.get_publisher_names_and_types_by_node("unirestore", "/outputs")
        if name.startswith("/outputs/unirestore/")
    }
    topics = {name.removeprefix("/outputs/unirestore/") for name in mine}
    expected = {"image", "image/compressed", "camera_info", "status"}
    expected |= {"detection/features", "detection/camera_info"}
    assert topics - {"transition_event"} == expected
    for topic in expected:
        qos = mine[f"/outputs/unirestore/{topic}"]
        assert qos.reliability is ReliabilityPolicy.BEST_EFFORT
    outputs.destroy()
    assert node.count_publishers("/outputs/unirestore/image") == 0


def demand(**changes: bool) -> Demand:
    """Of the driver's topics by their names, of a task's by theirs after ``task_``."""
    task = {name.removeprefix("task_"): changes.pop(name) for name in list(changes) if "_" in name}
    return Demand(False, False, False, {"detection": NOBODY._replace(**task)})._replace(**changes)


@pytest.mark.parametrize(
    ("wanted", "picture", "frames", "anything"),
    [
        (demand(), False, False, False),
        (demand(image=True), True, True, True),
        (demand(compressed=True), True, True, True),
        (Demand(False, False, True, {}), False, False, True),
        (demand(task_features=True), False, True, True),
        (demand(task_camera_info=True), False, False, True),
        (demand(task_image=True), False, True, True),
    ],
)
def test_what_is_needed(wanted: Demand, picture: bool, frames: bool, anything: bool) -> None:
    assert (wanted.picture, wanted.frames, wanted.anything) == (picture, frames, anything)
