"""The node's topics, and who subscribes to them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rclpy.context import Context
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import ReliabilityPolicy
from ros_station import Station
from sensor_msgs.msg import CompressedImage

from unirestore_ros.engine import EngineOutput
from unirestore_ros.node.outputs import Demand, Outputs
from unirestore_ros.node.parameters import Parameters

NOBODY = Demand(frozenset())


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
    assert outputs.demand() == NOBODY and not NOBODY
    station.subscribe("detection/features")
    station.subscribe("image/compressed", CompressedImage)
    wanted = Demand(frozenset({"detection/features", "image/compressed"}))
    station.wait(lambda: outputs.demand() == wanted, "both subscribers")
    station.unsubscribe()
    station.wait(lambda: outputs.demand() == NOBODY, "nobody")
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
    expected = {"image", "image/compressed", "camera_info", "status", "guard"}
    expected |= {"detection/features", "detection/camera_info"}
    assert topics - {"transition_event"} == expected
    for topic in expected:
        qos = mine[f"/outputs/unirestore/{topic}"]
        assert qos.reliability is ReliabilityPolicy.BEST_EFFORT
    outputs.destroy()
    assert node.count_publishers("/outputs/unirestore/image") == 0


@pytest.mark.parametrize(
    ("topic", "drivers", "frames"),
    [
        ("image", True, True),
        ("image/compressed", True, True),
        ("camera_info", False, False),
        ("detection/features", False, True),
        ("detection/camera_info", False, False),
        ("detection/image", False, True),
    ],
)
def test_what_is_needed(topic: str, drivers: bool, frames: bool) -> None:
    demand = Demand(frozenset({topic}))
    assert (bool(demand.drivers), demand.frames, bool(demand)) == (drivers, frames, True)
    assert topic in demand and "perception/image" not in demand


def test_what_the_engine_computes_for_it_in_order() -> None:
    topics = {"image/compressed", "detection/image", "detection/features", "segmentation/features"}
    demand = Demand(frozenset({*topics, "perception/image", "lane_marks/features"}))
    tasks = ("segmentation", "detection", "perception")
    assert demand.engine_outputs(tasks) == [
        EngineOutput("image", "perception"),
        EngineOutput("features", "segmentation"),
        EngineOutput("features", "detection"),
        EngineOutput("image", "detection"),
    ]
    assert NOBODY.engine_outputs(tasks) == []
    assert Demand(frozenset({"detection/camera_info"})).engine_outputs(tasks) == []
