"""What the node says of each frame that it publishes, on `~/status`, and what it counts of them."""

from __future__ import annotations

import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.impl.rcutils_logger import RcutilsLogger

from unirestore_ros.msgs.camera_frame import CameraFrame
from unirestore_ros.msgs.publishing import Topic
from unirestore_ros.node.mode import Mode
from unirestore_ros.node.statistics import Statistics

# An older stamp, or one from the future, is no age: the clocks differ, or an old bag is played.
_OLDEST_S = 10.0


class AgeClock:
    """Age of frames: the node's clock, which may be simulated, minus the stamp."""

    def __init__(self, clock: Clock, logger: RcutilsLogger) -> None:
        self._clock = clock
        self._logger = logger
        self._has_warned = False

    def age_s(self, frame: CameraFrame) -> float:
        """Seconds; from the frame's arrival where its stamp cannot be meant."""
        age = (self._clock.now().nanoseconds - frame.stamp_ns) * 1e-9
        if 0.0 <= age <= _OLDEST_S:
            return float(age)
        if not self._has_warned:
            self._has_warned = True
            self._logger.warning(
                f"a frame's stamp is {age:.3f} s before this node's clock: ages count from arrival;"
                " synchronise the clocks, or set use_sim_time where a bag is played with --clock"
            )
        return time.monotonic() - frame.arrived


class FrameReport:
    """Counts published frames and publishes a status for each. For any thread."""

    def __init__(self, name: str, status: Topic, statistics: Statistics, ages: AgeClock) -> None:
        self._name = name
        self._status = status
        self._statistics = statistics
        self._ages = ages

    def published(self, frame: CameraFrame, mode: Mode, reason: str) -> None:
        """To be called as soon as the first output of a frame is out."""
        age_ms = self._ages.age_s(frame) * 1e3
        latency_ms = (time.monotonic() - frame.arrived) * 1e3
        self._statistics.count_published(latency_ms, age_ms)
        if self._status.has_subscriber():
            values = {
                "mode": mode.value,
                "age_ms": f"{age_ms:.1f}",
                "latency_ms": f"{latency_ms:.1f}",
            }
            status = diagnostic(self._name, DiagnosticStatus.OK, reason or mode.value, values)
            self._status.send_object(DiagnosticArray(header=frame.header(), status=[status]))


def diagnostic(name: str, level: bytes, message: str, values: dict[str, str]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(name=name, level=level, message=message, values=pairs)
