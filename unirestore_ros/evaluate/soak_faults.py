"""The faults that a soak plants, one by one, into the node, its engine, its camera and the display.

Each is a function of what it acts on; it returns when the fault is over, and what must follow is
that restored frames come again. What the driver sees during each stands in docs/safety.md.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger

from unirestore_ros.evaluate.engine_faults import EngineFaults
from unirestore_ros.evaluate.soak_station import CameraSettings, Station

CALL_S = 15.0
# Until the next diagnostics, and what it takes until these have arrived here.
SAID_WITHIN_S = 3.5
FROZEN_WITHIN_S = 2.0
OTHER_SIZE, SMALL_SIZE, LARGE_SIZE = (322, 200), (64, 64), (1280, 960)


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

    def transition(self, number: int) -> None:
        request = ChangeState.Request()
        request.transition.id = number
        if self.station.call(ChangeState, "change_state", request, CALL_S) is None:
            self.failures.append(f"no answer to transition {number} within {CALL_S:g} s")

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


def _words(status: DiagnosticStatus) -> str:
    return f"{status.message} {status.values}"


@dataclass(frozen=True)
class Fault:
    name: str
    group: str
    """``engine`` where the engine process is lost; ``node``, ``camera``, ``display``, ``peer``."""
    act: Callable[[Context], None]
    picture_goes_on: bool = True
    """Whether camera and node run all the time, so that the image must not pause."""
    may_survive: bool = False
    """Whether the engine process may get over it, so that none is lost."""
    hangs: bool = False
    """Whether the engine stops answering, which is noticed after ``fallback_after_ms``."""


def _signal_engine(number: signal.Signals) -> Callable[[Context], None]:
    def act(context: Context) -> None:
        os.kill(context.graph.engine_pid(), number)
        time.sleep(1.0)

    return act


def _plant(fault: str, seconds: float = 1.0) -> Callable[[Context], None]:
    def act(context: Context) -> None:
        context.engine.plant(fault)
        time.sleep(seconds)
        context.engine.remove()

    return act


def _leak(context: Context) -> None:
    context.configure(engine_memory_limit_mb=600)
    context.engine.plant("leak 5")
    time.sleep(6.0)
    context.engine.remove()
    context.configure(engine_memory_limit_mb=0)


def _little_memory(context: Context) -> None:
    """Leave the engine no memory beyond what it has, while another size asks for more. Whether it
    gets over it or is replaced, is the node's."""
    pid = context.graph.engine_pid()
    held = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (held, held))
    _camera(sizes=(LARGE_SIZE,), seconds=3.0)(context)


def _camera(
    seconds: float = 3.0,
    says: str = "",
    display_says: str = "",
    within_s: float = SAID_WITHIN_S,
    **settings: Any,
) -> Callable[[Context], None]:
    """Have the camera behave otherwise for a while; the node, with each image, or the display must
    say so in time."""

    def act(context: Context) -> None:
        began = time.monotonic()
        context.station.camera.settings = CameraSettings(**settings)
        if says:
            context.expect(f"{context.station.restorer}/status", says, within_s)
        if display_says:
            context.expect(context.station.display, display_says, within_s)
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        context.station.camera.settings = CameraSettings()

    return act


def _cut(message: Image) -> None:
    message.data = message.data[: len(message.data) // 2]


def _absurd(message: Image) -> None:
    message.width, message.height, message.step = 2**31, 2**31, 1


def _no_encoding(message: Image) -> None:
    message.encoding = "\ufffd\u0000 8UC4096"


def _disabled(context: Context) -> None:
    context.station.call(SetBool, "set_enabled", SetBool.Request(data=False), CALL_S)
    time.sleep(1.5)
    context.station.call(SetBool, "set_enabled", SetBool.Request(data=True), CALL_S)


def _broken_bundle(damage: Callable[[Path, Random], None]) -> Callable[[Context], None]:
    """Damage a part of the bundle and reload: refused, and the engine in use stays in use."""

    def act(context: Context) -> None:
        bundle = context.graph.bundle
        part = context.random.choice(sorted(bundle.rglob("*.onnx")))
        kept = part.with_name("kept")
        shutil.copy2(part, kept)
        damage(part, context.random)
        if context.reload():
            context.failures.append("a damaged bundle was not refused")
        kept.replace(part)
        if context.reload() is False:
            context.failures.append("a sound bundle was refused")

    return act


def _flip(part: Path, random: Random) -> None:
    data = bytearray(part.read_bytes())
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    part.write_bytes(data)


def _truncate(part: Path, random: Random) -> None:
    os.truncate(part, random.randrange(part.stat().st_size))


def _stopped(context: Context) -> None:
    """Stop the node for longer than the display shows an image as current: it then shows the
    camera's."""
    pid = context.graph.node_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        context.expect(context.station.display, "camera: ", 5.0)
    finally:
        os.kill(pid, signal.SIGCONT)


def _lifecycle(*transitions: int) -> Callable[[Context], None]:
    def act(context: Context) -> None:
        for number in transitions:
            context.transition(number)
            time.sleep(context.random.uniform(0, 0.3))

    return act


_DEACTIVATE = Transition.TRANSITION_DEACTIVATE
_ACTIVATE = Transition.TRANSITION_ACTIVATE
_CLEANUP, _CONFIGURE = Transition.TRANSITION_CLEANUP, Transition.TRANSITION_CONFIGURE


def _random_transitions(context: Context) -> None:
    choices = (_DEACTIVATE, _ACTIVATE, _CLEANUP, _CONFIGURE)
    _lifecycle(*(context.random.choice(choices) for _ in range(12)))(context)
    _lifecycle(_CONFIGURE, _ACTIVATE)(context)


def _parameters(context: Context) -> None:
    """Values of every type for every parameter; what is wrong must be refused."""
    values = ["", "x", -1, 0, 2**62, float("nan"), float("inf"), True, [1, 2], ["a"], [b"\x00"]]
    names = ("max_age_ms", "jpeg_quality", "fallback_after_ms", "tasks", "bundle", "backend")
    for name in names:
        for value in context.random.sample(values, 4):
            if (name, value) not in (("bundle", "x"),):
                context.configure(**{name: value})
    context.configure(max_age_ms=500, jpeg_quality=90, fallback_after_ms=500)
    context.configure(bundle=str(context.graph.bundle), backend="auto")


def _subscriber(number: signal.Signals | None) -> Callable[[Context], None]:
    """A subscriber of every output that comes, is stopped where a signal is given, and goes."""

    def act(context: Context) -> None:
        pid = context.graph.listener()
        time.sleep(4.0)
        if number is not None:
            os.kill(pid, number)
            time.sleep(4.0)
        context.graph.drop(pid)

    return act


def _namesake(context: Context) -> None:
    watch = context.station.watch
    watch.is_mixed = True  # frames of one stamp come from both
    pid = context.graph.namesake()
    context.expect(context.station.restorer, "nodes are named", 20.0)
    context.graph.drop(pid)
    time.sleep(1.0)
    watch.is_mixed = False


FAULTS = (
    Fault("engine: SIGKILL", "engine", _signal_engine(signal.SIGKILL)),
    Fault("engine: SIGSEGV", "engine", _signal_engine(signal.SIGSEGV)),
    Fault("engine: SIGSTOP", "engine", _signal_engine(signal.SIGSTOP), hangs=True),
    Fault("engine: exit", "engine", _plant("exit")),
    Fault("engine: crash in native code", "engine", _plant("crash")),
    Fault("engine: ZeroDivisionError", "engine", _plant("raise ZeroDivisionError")),
    Fault("engine: RuntimeError", "engine", _plant("raise RuntimeError")),
    Fault("engine: ValueError", "engine", _plant("raise ValueError")),
    Fault("engine: MemoryError", "engine", _plant("raise MemoryError")),
    Fault("engine: SystemExit", "engine", _plant("raise SystemExit")),
    Fault("engine: KeyboardInterrupt", "engine", _plant("raise KeyboardInterrupt")),
    Fault("engine: hang", "engine", _plant("sleep 600", 3.0), hangs=True),
    Fault("engine: slow", "camera", _plant("sleep 0.4", 4.0), hangs=True),
    Fault("engine: NaN in every output", "camera", _plant("nan", 3.0)),
    Fault("engine: leak", "engine", _leak),
    Fault("engine: no more memory", "engine", _little_memory, may_survive=True),
    Fault("bundle: bit flipped, reload", "peer", _broken_bundle(_flip)),
    Fault("bundle: truncated, reload", "peer", _broken_bundle(_truncate)),
    Fault("camera: stopped", "camera", _camera(is_sending=False, display_says="stale"), False),
    Fault(
        "camera: frozen",
        "camera",
        _camera(is_frozen=True, says="has not changed", within_s=FROZEN_WITHIN_S),
    ),
    Fault("camera: clock 5 s ahead", "camera", _camera(clock_offset_s=5.0, says="ahead")),
    Fault("camera: clock 1000 s behind", "camera", _camera(clock_offset_s=-1e3, says="behind")),
    Fault("camera: stamps of zero", "camera", _camera(stamps_are_zero=True, says="zero")),
    Fault("camera: another size", "camera", _camera(sizes=(OTHER_SIZE,), seconds=6.0)),
    Fault("camera: sizes alternate", "camera", _camera(sizes=(OTHER_SIZE, SMALL_SIZE))),
    Fault("camera: short data", "camera", _camera(damage=_cut)),
    Fault("camera: absurd size", "camera", _camera(damage=_absurd)),
    Fault("camera: unknown encoding", "camera", _camera(damage=_no_encoding)),
    Fault("node: disabled", "node", _disabled),
    Fault("node: kill -9", "node", lambda context: context.graph.kill_node(), False),
    Fault("node: SIGSTOP", "node", _stopped, picture_goes_on=False),
    Fault("node: deactivated", "node", _lifecycle(_DEACTIVATE, _ACTIVATE), False),
    Fault(
        "node: cleaned up",
        "node",
        _lifecycle(_DEACTIVATE, _CLEANUP, _CONFIGURE, _ACTIVATE),
        picture_goes_on=False,
    ),
    Fault("node: random transitions", "node", _random_transitions, picture_goes_on=False),
    Fault("node: parameters of every type", "node", _parameters),
    Fault("display: kill -9", "display", lambda context: context.graph.kill_display()),
    Fault("peer: subscriber comes and goes", "peer", _subscriber(None)),
    Fault("peer: subscriber stopped", "peer", _subscriber(signal.SIGSTOP)),
    Fault("peer: second node of the name", "peer", _namesake, picture_goes_on=False),
)
