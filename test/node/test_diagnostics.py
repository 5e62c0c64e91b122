"""What the node counts, measures and says about itself."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import ClockType, ROSClock
from rclpy.serialization import serialize_message
from rclpy.time import Time
from ros_station import image

from unirestore_ros.msgs.camera_frame import CameraFrame, read_frame
from unirestore_ros.node.diagnostics import AgeClock, Drop, Health, Statistics, diagnose
from unirestore_ros.node.fallback import Mode

NOW_S = 1000.0
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
WELL = Health(is_active=True, mode=Mode.RESTORED, reason="", enabled=True)


@pytest.mark.parametrize(
    ("changes", "level", "message"),
    [
        ({}, OK, "restored mode"),
        ({"is_active": False}, OK, "inactive"),
        ({"recent_drops": "frames were dropped: too old"}, WARN, "frames were dropped: too old"),
        ({"mode": Mode.CAMERA, "reason": "a stall"}, WARN, "camera mode: a stall"),
        (
            {"mode": Mode.CAMERA, "reason": "disabled", "enabled": False},
            OK,
            "camera mode: disabled",
        ),
        ({"silence": "nothing arrives"}, WARN, "nothing arrives"),
        ({"missing_tasks": "no prompt", "silence": "nothing"}, ERROR, "no prompt"),
        ({"bundle_problem": "no bundle", "missing_tasks": "no prompt"}, ERROR, "no bundle"),
        ({"bundle_problem": "no bundle", "is_active": False}, ERROR, "no bundle"),
    ],
)
def test_assess(changes: dict[str, object], level: bytes, message: str) -> None:
    assert dataclasses.replace(WELL, **changes).assess() == (level, message)


def test_a_dead_thread_comes_first() -> None:
    health = dataclasses.replace(WELL, thread_died=True, bundle_problem="no bundle")
    level, message = health.assess()
    assert level == ERROR and "restart the node" in message


def test_the_state_is_among_the_values() -> None:
    assert diagnose(WELL, {"mode": "restored"}).values == {"state": "active", "mode": "restored"}


class Log:
    """Takes the place of the node's logger, and remembers."""

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
def test_a_stamp_that_cannot_be_right_counts_from_arrival_with_one_warning(age: float) -> None:
    ages = AgeClock(simulated(2e8), log := Log())
    for _ in range(3):
        assert ages.age_s(frame(2e8 - age)) == pytest.approx(0.25, abs=0.2)
    (warning,) = log.warnings
    assert "ages count from arrival" in warning


def test_values() -> None:
    statistics = Statistics()
    now = time.monotonic()
    for latency in np.arange(10.0, 20.0):
        statistics.count_arrival(now)
        statistics.count_published(latency, latency + 5)
        statistics.count_inference(latency - 5)
    for cause in (Drop.REPLACED, Drop.REPLACED, Drop.TOO_OLD):
        statistics.count_drop(cause)
    values = statistics.values()
    assert values["latency_median_ms"] == "14.5" and values["age_median_ms"] == "19.5"
    assert values["inference_median_ms"] == "9.5" and values["latency_p99_ms"] == "18.9"
    assert (values["dropped_replaced"], values["dropped_too_old"]) == ("2", "1")
    assert (values["dropped_malformed"], values["dropped_failed"]) == ("0", "0")


def test_recent_drops_name_what_should_not_be() -> None:
    statistics = Statistics()
    statistics.count_drop(Drop.REPLACED)
    assert statistics.recent_drops() is None
    statistics.count_drop(Drop.TOO_OLD)
    statistics.count_drop(Drop.MALFORMED)
    assert statistics.recent_drops() == "frames were dropped: too old, malformed"
