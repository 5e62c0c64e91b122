"""What the faults of a soak act on, processes, camera and services, and what must come of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from unirestore_ros.evaluate.engine_faults import EngineFaults
from unirestore_ros.evaluate.soak_station import Size, Station

CALL_S = 15.0
# So many images at most come while one fault lasts.
_LOOKED_BACK = 1000


class Graph(Protocol):
    """The processes of a soak."""

    bundle: Path
    """A copy of the bundle, which may be damaged and is put right again."""

    def node_pid(self) -> int: ...
    def engine_pid(self) -> int: ...
    def display_pid(self) -> int: ...
    def kill_node(self) -> None:
        """End it by SIGKILL; it is started again as a launch file's respawn does."""

    def kill_display(self) -> None:
        """The same for the display."""

    def listener(self) -> int:
        """Start one more subscriber of images and features; returns its process."""

    def drop(self, pid: int) -> None:
        """End such a subscriber by SIGKILL."""

    def namesake(self) -> int:
        """Start a second node of the same name; ``drop`` ends it."""


@dataclass
class Context:
    """What a fault acts on."""

    graph: Graph
    station: Station
    engine: EngineFaults
    random: Random
    failures: list[str] = field(default_factory=list)
    """What was not as it must be, such as a fault that nobody spoke of."""

    def configure(self, **values: Any) -> list[bool]:
        """Set parameters of the node; tell for each whether it was accepted."""
        wanted = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        request = SetParameters.Request(parameters=wanted)
        answer = self.station.call(SetParameters, "set_parameters", request, CALL_S)
        return [] if answer is None else [result.successful for result in answer.results]

    def transition(self, number: int, is_possible: bool = True) -> None:
        """Ask for a transition; ``is_possible``: whether it must succeed."""
        request = ChangeState.Request()
        request.transition.id = number
        answer = self.station.call(ChangeState, "change_state", request, CALL_S)
        if answer is None:
            self.failures.append(f"no answer to transition {number} within {CALL_S:g} s")
        elif is_possible and not answer.success:
            self.failures.append(f"transition {number} failed")

    def reload(self) -> bool | None:
        answer = self.station.call(Trigger, "reload", Trigger.Request(), 4 * CALL_S)
        if answer is None:
            self.failures.append(f"no answer to reload within {4 * CALL_S:g} s")
        return None if answer is None else bool(answer.success)

    def expect(self, name: str, said: str, limit_s: float) -> None:
        """Wait until what a node says of itself from now on holds these words."""
        status = self.station.watch.wait_for(name, lambda status: said in _words(status), limit_s)
        last = "nothing" if status is None else _words(status)
        if said not in last:
            self.failures.append(f"{name} did not say {said!r} within {limit_s:g} s, but {last}")

    def wait(self, condition: Callable[[], object], what: str, limit_s: float) -> None:
        """Wait until a condition holds; that it does not is a failure."""
        end = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() >= end:
                self.failures.append(f"{what}: not within {limit_s:g} s")
                return
            time.sleep(0.02)

    def has_come(self, kind: str, since: float, size: Size | None = None) -> bool:
        """Tell whether an image of a kind, as in ``Arrival``, and of that size came on ``~/image``
        since a time of the steady clock."""
        frames = self.station.camera.frames
        return any(
            arrival.at >= since
            and arrival.kind == kind
            and (size is None or frames.get(arrival.stamp_ns, (None, 0))[0] == size)
            for arrival in self.station.watch.arrivals[-_LOOKED_BACK:]
        )


def _words(status: DiagnosticStatus) -> str:
    return f"{status.message} {status.values}"
