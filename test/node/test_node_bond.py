"""The bond with a lifecycle manager.

bondpy comes with apt's ROS 2 from Jazzy on, not from PyPI: a stand-in with the methods that its
source has says when they are called. No real bond has been formed by these tests.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from ros_fixtures import StartNode
from ros_process import NodeProcess
from ros_station import Station

pytestmark = pytest.mark.dds

STAND_IN = """
class Bond(object):
    def __init__(self, node, topic, bond_id, on_broken=None, on_formed=None):
        print("bond made", topic, bond_id, flush=True)
        self.is_started = False

    def set_heartbeat_period(self, per):
        assert not self.is_started
        print("bond period", per, flush=True)

    def set_heartbeat_timeout(self, dur):
        assert not self.is_started
        print("bond timeout", dur, flush=True)

    def start(self):
        self.is_started = True
        print("bond started", flush=True)

    def shutdown(self):
        print("bond ended", flush=True)
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """PYTHONPATH with the stand-in on it."""
    folder = tmp_path_factory.mktemp("ros")
    (folder / "bondpy").mkdir()
    (folder / "bondpy" / "__init__.py").touch()
    (folder / "bondpy" / "bondpy.py").write_text(STAND_IN)
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="module")
def node(start_node: StartNode, miniature: Path, path: str) -> NodeProcess:
    return start_node(f"bundle:={miniature}", "autostart:=false", PYTHONPATH=path)


def test_a_node_that_is_managed_has_a_bond_while_it_is_active(
    node: NodeProcess, station: Station
) -> None:
    station.change_state(Transition.TRANSITION_CONFIGURE)
    assert "bond" not in node.said()
    for _ in range(2):
        station.change_state(Transition.TRANSITION_ACTIVATE)
        station.change_state(Transition.TRANSITION_DEACTIVATE)
    lines = [line for line in node.said().splitlines() if line.startswith("bond ")]
    once = ["bond made bond unirestore", "bond period 0.1", "bond timeout 4.0", "bond started"]
    assert lines == [*once, "bond ended"] * 2
    station.change_state(Transition.TRANSITION_ACTIVATE)
    station.change_state(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert node.said().count("bond ended") == 3
