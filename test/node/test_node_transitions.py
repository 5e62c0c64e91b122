"""Transitions of a real node: in random orders, over and over, and under every QoS.

In a short form; with UNIRESTORE_FAULTS=long 200 orders and 50 cycles, for some minutes.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from rclpy.context import Context
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_fixtures import StartNode
from ros_miniature import frame
from ros_process import NodeProcess
from ros_station import Station, image
from sensor_msgs.msg import Image

pytestmark = pytest.mark.dds

LONG = os.environ.get("UNIRESTORE_FAULTS") == "long"
ORDERS, CYCLES = (200, 50) if LONG else (8, 8)
TRANSITIONS_EACH = 6
WARM_CYCLES = 4
RGB = frame(seed=1)

CONFIGURE, CLEANUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP
ACTIVATE, DEACTIVATE = Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE
AFTER = {
    ("unconfigured", CONFIGURE): "inactive",
    ("inactive", CLEANUP): "unconfigured",
    ("inactive", ACTIVATE): "active",
    ("active", DEACTIVATE): "inactive",
}


@pytest.fixture(scope="module")
def node(start_node: StartNode, miniature: Path) -> NodeProcess:
    return start_node(f"bundle:={miniature}", "autostart:=false", "max_age_ms:=10000")


@pytest.fixture(scope="module")
def station(context: Context, node: NodeProcess) -> Iterator[Station]:
    station = Station(context, node.namespace)
    yield station
    station.close()


def bring_to(station: Station, state: str) -> None:
    """Bring the node to unconfigured or active, wherever it is."""
    way = {"unconfigured": (DEACTIVATE, CLEANUP), "active": (CONFIGURE, ACTIVATE)}[state]
    for transition in way:
        station.change_state(transition)
    assert station.state() == state


def test_random_orders_end_where_the_life_cycle_says(station: Station, node: NodeProcess) -> None:
    """With a camera that sends all the time, and a subscriber: what is not possible is refused."""
    random = Random(1)
    camera = station.node.create_publisher(Image, f"{node.namespace}/image", 1)
    timer = station.node.create_timer(1 / 30, lambda: camera.publish(image(RGB, "rgb8")))
    bring_to(station, "active")
    station.subscribe("image")
    state = "active"
    for _ in range(ORDERS):
        for _ in range(TRANSITIONS_EACH):
            transition = random.choice((CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE))
            after = AFTER.get((state, transition))
            assert station.change_state(transition) == (after is not None)
            state = after or state
    assert station.state() == state
    station.unsubscribe()
    station.node.destroy_timer(timer)
    station.node.destroy_publisher(camera)
    assert "Traceback" not in node.said()


def own_memory_mb(node: NodeProcess) -> float:
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    (kilobytes,) = re.findall(r"RssAnon:\s+(\d+) kB", status)
    return int(kilobytes) * 1.024e-3


def test_memory_is_back_after_each_cycle(station: Station, node: NodeProcess) -> None:
    """The node's own: the engine's goes with the engine's process."""
    after = []
    for _ in range(WARM_CYCLES + CYCLES):
        bring_to(station, "active")
        bring_to(station, "unconfigured")
        after.append(own_memory_mb(node))
    warm = after[WARM_CYCLES - 1]
    assert after[-1] < 1.02 * warm, after
    assert list(Path(f"/proc/{node.process.pid}/task").glob("*/children")), "the process is there"
    children = Path(f"/proc/{node.process.pid}/task").glob("*/children")
    assert "".join(path.read_text() for path in children) == "", "no engine process is left"


RELIABILITIES = (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT)
DURABILITIES = (DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL)
CAMERAS = tuple(itertools.product(RELIABILITIES, DURABILITIES))
SETTINGS = tuple(
    itertools.product(("auto", "reliable", "best_effort"), ("reliable", "best_effort"))
)


@pytest.mark.parametrize(("of_input", "of_output"), SETTINGS)
def test_every_qos_combination(station: Station, of_input: str, of_output: str) -> None:
    """An image comes where camera, node and subscriber fit each other; elsewhere the node says that
    nothing arrives, and takes the next camera that fits."""
    bring_to(station, "unconfigured")
    station.set_parameters(input_reliability=of_input, output_reliability=of_output)
    bring_to(station, "active")
    for reliability, durability in CAMERAS:
        fits = of_input != "reliable" or reliability is ReliabilityPolicy.RELIABLE
        camera = station.node.create_publisher(
            Image,
            f"{station.namespace}/image",
            QoSProfile(depth=1, reliability=reliability, durability=durability),
        )
        send = functools.partial(camera.publish, image(RGB, "rgb8"))
        timer = station.node.create_timer(1 / 30, send)
        if not fits:
            check_silence(station)
        for wanted in RELIABILITIES if fits else ():
            if of_output == "best_effort" and wanted is ReliabilityPolicy.RELIABLE:
                check_misfit(station)
                continue
            inbox = station.subscribe("image", reliable=wanted is ReliabilityPolicy.RELIABLE)
            arrived = functools.partial(getattr, inbox, "messages")
            station.wait(arrived, f"an image for {wanted.name}")
            station.unsubscribe("image")
        station.node.destroy_timer(timer)
        station.node.destroy_publisher(camera)


def check_silence(station: Station) -> None:
    """The parameter asks for a reliable camera, and this one is not: nothing comes, which is
    said."""
    inbox = station.subscribe("image", reliable=False)
    said = "but nothing has arrived for"
    status = station.diagnosis(lambda status: said in status.message, said)
    assert status.level == DiagnosticStatus.WARN
    assert inbox.messages == []
    station.unsubscribe("image")


def check_misfit(station: Station) -> None:
    """A reliable subscriber of an image sent best effort gets none, beside one that does."""
    received: list[Image] = []
    misfit = station.node.create_subscription(Image, station.name("image"), received.append, 1)
    inbox = station.subscribe("image", reliable=False)
    station.wait(lambda: len(inbox.messages) > 2, "images for the one that fits")
    assert received == []
    station.unsubscribe("image")
    station.node.destroy_subscription(misfit)
