"""What `bag watch` counts, of messages given to it by hand."""

from __future__ import annotations

from typing import Any

import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import ROSClock
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from unirestore_ros.recordings.arrivals import Arrival
from unirestore_ros.recordings.headers import read_header
from unirestore_ros.recordings.watch import Watcher, table

IMAGE, STATUS = "/unirestore/image", "/unirestore/status"


class Node:
    """As much of a node as counting needs."""

    def get_clock(self) -> ROSClock:
        return ROSClock()


def watched(stamps_ns: list[int]) -> dict[str, Any]:
    """Ten frames have a status, every other is restored; the first four images arrive."""
    node: Any = Node()
    watcher = Watcher(node, [IMAGE, STATUS])
    for number, stamp in enumerate(stamps_ns):
        header = Header(stamp=Time(sec=stamp // 10**9, nanosec=stamp % 10**9))
        mode = KeyValue(key="mode", value="restored" if number % 2 else "camera")
        status = DiagnosticArray(header=header, status=[DiagnosticStatus(values=[mode])])
        sent: dict[str, Any] = {STATUS: status}
        if number < 4:
            sent[IMAGE] = Image(header=header)
        for topic, message in sent.items():
            data = serialize_message(message)
            watcher._receive(Arrival(topic, type(message), data, read_header(data)))
    return watcher.report(STATUS)


@pytest.mark.parametrize("stamps", [[0] * 10, [5] * 10], ids=["zero", "alike"])
def test_stamps_that_are_all_alike_are_counted_by_number(stamps: list[int]) -> None:
    """Not as one frame, of which everybody had all."""
    report = watched(stamps)
    image, status = report["topics"][IMAGE], report["topics"][STATUS]
    assert (image["share"], image["share_of_restored"]) == (0.4, 0.8)
    assert status["modes"] == {"camera": 5, "restored": 5}
    assert f"stamps of {STATUS} are all alike: frames are counted by number" in table(report)


def test_other_stamps_tell_which_frames_came() -> None:
    report = watched([1 + 10**8 * number for number in range(10)])
    image = report["topics"][IMAGE]
    assert (image["share"], image["share_of_restored"]) == (0.4, 0.4)
    assert report["counted_by"] == "stamp" and "alike" not in table(report)
