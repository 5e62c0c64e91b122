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
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool

from unirestore_ros.evaluate.soak_context import CALL_S, Context
from unirestore_ros.evaluate.soak_station import CameraSettings, Size

# Until the next diagnostics, and what it takes until these have arrived here.
SAID_WITHIN_S = 3.5
FROZEN_WITHIN_S = 2.0
OTHER_SIZE, SMALL_SIZE, LARGE_SIZE = (322, 200), (64, 64), (1280, 960)
# On a busy machine a frame may take a second, and each leaks 10 MB of some 300.
LEAK_S = 60.0


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
        context.wait(context.engine.has_acted, f"the engine to {fault}", SAID_WITHIN_S)
        context.engine.remove()

    return act


def _slow(context: Context) -> None:
    began = time.monotonic()
    _plant("sleep 0.4", 4.0)(context)
    if not context.has_come("camera", began):
        context.failures.append("a slow engine never brought camera mode")


def _not_a_number(context: Context) -> None:
    context.engine.plant("nan")
    context.expect(f"{context.station.restorer}/status", "the guard refused", SAID_WITHIN_S)
    time.sleep(2.0)
    context.engine.remove()


def _leak(context: Context) -> None:
    losses = len(context.station.watch.losses)
    context.configure(engine_memory_limit_mb=600)
    context.engine.plant("leak 5")
    context.wait(lambda: len(context.station.watch.losses) > losses, "the limit", LEAK_S)
    context.engine.remove()
    context.configure(engine_memory_limit_mb=0)


def _little_memory(context: Context) -> None:
    """Leave the engine no memory beyond what it has, while another size asks for more. Whether it
    gets over it or is replaced, is the node's."""
    pid = context.graph.engine_pid()
    held = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (held, held))
    losses, began = len(context.station.watch.losses), time.monotonic()
    _camera(sizes=(LARGE_SIZE,), seconds=3.0)(context)
    is_lost = len(context.station.watch.losses) > losses
    if not is_lost and not context.has_come("restored", began, LARGE_SIZE):
        context.failures.append("the engine neither got over it nor was replaced")


def _camera(
    seconds: float = 3.0,
    says: str = "",
    display_says: str = "",
    within_s: float = SAID_WITHIN_S,
    brings: tuple[str, Size | None] | None = None,
    drops: str = "",
    **settings: Any,
) -> Callable[[Context], None]:
    """Have the camera behave otherwise for a while. The node, with each image, or the display must
    say so in time; an image of a kind and size must come; frames must be dropped for a cause."""

    def act(context: Context) -> None:
        began, watch = time.monotonic(), context.station.watch
        dropped = watch.drops[drops]
        context.station.camera.settings = CameraSettings(**settings)
        if says:
            context.expect(f"{context.station.restorer}/status", says, within_s)
        if display_says:
            context.expect(context.station.display, display_says, within_s)
        if drops:
            context.wait(lambda: watch.drops[drops] > dropped, f"{drops} frames", within_s)
        if brings is not None:
            kind, size = brings
            wanted = f"an image of {size or 'any size'}: {kind}"
            context.wait(lambda: context.has_come(kind, began, size), wanted, CALL_S)
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
    context.expect(f"{context.station.restorer}/status", "disabled", SAID_WITHIN_S)
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


def _lifecycle(*transitions: int, are_possible: bool = True) -> Callable[[Context], None]:
    def act(context: Context) -> None:
        for number in transitions:
            context.transition(number, are_possible)
            time.sleep(context.random.uniform(0, 0.3))

    return act


_DEACTIVATE = Transition.TRANSITION_DEACTIVATE
_ACTIVATE = Transition.TRANSITION_ACTIVATE
_CLEANUP, _CONFIGURE = Transition.TRANSITION_CLEANUP, Transition.TRANSITION_CONFIGURE


def _random_transitions(context: Context) -> None:
    choices = (_DEACTIVATE, _ACTIVATE, _CLEANUP, _CONFIGURE)
    wanted = [context.random.choice(choices) for _ in range(12)]
    _lifecycle(*wanted, _CONFIGURE, _ACTIVATE, are_possible=False)(context)


def _parameters(context: Context) -> None:
    """Values of every type for every parameter; what is wrong must be refused."""
    values = ["", "x", -1, 0, 2**62, float("nan"), float("inf"), True, [1, 2], ["a"], [b"\x00"]]
    types = {"max_age_ms": int, "jpeg_quality": int, "fallback_after_ms": int, "tasks": list}
    for name, wanted in {**types, "bundle": str, "backend": str}.items():
        for value in context.random.sample(values, 4):
            if (name, value) == ("bundle", "x"):
                continue
            if context.configure(**{name: value}) == [True] and type(value) is not wanted:
                context.failures.append(f"{name} took {value!r}")
    context.configure(max_age_ms=500, jpeg_quality=90, fallback_after_ms=500)
    context.configure(bundle=str(context.graph.bundle), backend="auto")


def _subscribers(context: Context) -> set[tuple[int, ...]]:
    """Subscribers of features, some of them killed seconds ago."""
    topic = f"{context.station.restorer}/segmentation/features"
    found = context.station.node.get_subscriptions_info_by_topic(topic)
    return {tuple(subscriber.endpoint_gid) for subscriber in found}


def _subscriber(number: signal.Signals | None) -> Callable[[Context], None]:
    """A subscriber of every output that comes, is stopped where a signal is given, and goes."""

    def act(context: Context) -> None:
        before = _subscribers(context)
        pid = context.graph.listener()
        context.wait(lambda: _subscribers(context) - before, "the subscriber to be found", CALL_S)
        time.sleep(2.0)
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
    Fault("engine: slow", "camera", _slow, hangs=True),
    Fault("engine: NaN in every output", "camera", _not_a_number),
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
    Fault(
        "camera: another size",
        "camera",
        _camera(sizes=(OTHER_SIZE,), seconds=6.0, brings=("restored", OTHER_SIZE)),
    ),
    Fault(
        "camera: sizes alternate",
        "camera",
        _camera(sizes=(OTHER_SIZE, SMALL_SIZE), brings=("camera", SMALL_SIZE)),
    ),
    Fault("camera: short data", "camera", _camera(damage=_cut, drops="malformed")),
    Fault("camera: absurd size", "camera", _camera(damage=_absurd, drops="malformed")),
    Fault(
        "camera: unknown encoding", "camera", _camera(damage=_no_encoding, brings=("camera", None))
    ),
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
