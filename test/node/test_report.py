"""Age of frames by the node's clock, simulated or not."""

from __future__ import annotations

import time

import numpy as np
import pytest
from rclpy.clock import ClockType, ROSClock
from rclpy.serialization import serialize_message
from rclpy.time import Time
from ros_station import image

from unirestore_ros.msgs.camera_frame import CameraFrame, read_frame
from unirestore_ros.node.report import AgeClock

NOW_S = 1000.0


class Log:
    """Stands where the node's logger does, and remembers."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def simulated(seconds: float) -> ROSClock:
    clock = ROSClock()
    clock._set_ros_time_is_active(True)
    clock.set_ros_time_override(
        Time(nanoseconds=round(seconds * 1e9), clock_type=ClockType.ROS_TIME)
    )
    return clock


def frame(stamp_s: float, arrived_ago: float = 0.25) -> CameraFrame:
    message = image(np.zeros((2, 2, 3), np.uint8), "rgb8")
    message.header.stamp = Time(nanoseconds=round(stamp_s * 1e9)).to_msg()
    return read_frame(serialize_message(message), False, time.monotonic() - arrived_ago, 0)


@pytest.mark.parametrize("age", [0.0, 0.4, 9.9])
def test_age_is_the_nodes_clock_minus_the_stamp(age: float) -> None:
    ages = AgeClock(simulated(NOW_S), log := Log())
    assert ages.age_s(frame(NOW_S - age)) == pytest.approx(age, abs=1e-6)
    assert log.warnings == []


@pytest.mark.parametrize("age", [-0.001, -60.0, 10.1, 1e8])
def test_a_stamp_that_cannot_be_meant_counts_from_arrival_with_one_warning(age: float) -> None:
    ages = AgeClock(simulated(2e8), log := Log())
    for _ in range(3):
        assert ages.age_s(frame(2e8 - age)) == pytest.approx(0.25, abs=0.2)
    (warning,) = log.warnings
    assert "ages count from arrival" in warning
