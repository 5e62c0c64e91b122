"""An error that nobody foresaw, at the boundary to foreign data: it costs a frame or an overlay, is
said as an ERROR, and the image goes on, in the node and in the display."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from display_drive import PATIENT, SIZE
from rclpy.context import Context
from ros_miniature import frame
from ros_process import NodeProcess
from ros_station import Station, image, values_of
from sensor_msgs.msg import Image

from unirestore_ros.display import compositor as module
from unirestore_ros.display.canvas import Scene
from unirestore_ros.display.compositor import Compositor, Outputs
from unirestore_ros.display.overlay import Area, Box
from unirestore_ros.display.parameters import DisplayParameters, View
from unirestore_ros.display.selection import FrameStatus
from unirestore_ros.display.sources import Sources
from unirestore_ros.node.diagnostics import ErrorLog

# Python imports this module of the path when it starts.
PLANTED = """
import unirestore_ros.msgs.camera_frame as module

read_frame = module.read_frame


def read(message, *arguments):
    frame = read_frame(message, *arguments)
    if frame.width == 66:
        raise KeyError("planted")
    return frame


module.read_frame = read
"""
GOOD, BAD = (image(frame(size=(width, 48)), "rgb8") for width in (64, 66))


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "sitecustomize.py").write_text(PLANTED)
    return os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def station(
    start_node: Callable[..., NodeProcess], miniature: Path, context: Context, path: str
) -> Iterator[Station]:
    """Before a node and a display that both fail on a frame of width 66."""
    restorer = start_node(f"bundle:={miniature}", *PATIENT, PYTHONPATH=path)
    more = (f"output_width:={SIZE[0]}", f"output_height:={SIZE[1]}", "page:=false", *PATIENT[:2])
    start_node(*more, namespace=restorer.namespace, command="driver_display", PYTHONPATH=path)
    station = Station(context, restorer.namespace)
    yield station
    station.close()


@pytest.mark.dds
def test_a_frame_that_a_node_fails_on_is_dropped_and_said(station: Station) -> None:
    display = f"{station.namespace}/driver_display"
    shown, diagnostics = (
        station.subscribe(f"{display}/image"),
        station.subscribe("/diagnostics", DiagnosticArray),
    )
    camera = station.camera(subscribers=2)

    def send(message: Image) -> None:
        now = time.time_ns()
        message.header.stamp = Time(sec=now // 10**9, nanosec=now % 10**9)
        camera.publish(message)
        station.pause(0.05)

    def said(name: str) -> DiagnosticStatus | None:
        send(BAD)
        send(GOOD)
        errors = (s for a in diagnostics.messages for s in a.status if s.name == name)
        return next((s for s in errors if "KeyError: 'planted'" in s.message), None)

    for name in (station.name("")[:-1], display):
        status = station.wait(functools.partial(said, name), f"{name} naming the error")
        assert status is not None
        assert status.level == DiagnosticStatus.ERROR
        if name != display:
            assert int(values_of(status)["dropped_unforeseen_error"]) > 0
    count = len(shown.messages)

    def goes_on() -> bool:
        send(GOOD)
        return len(shown.messages) > count + 3

    station.wait(goes_on, "images of the display")


class Log:
    def __init__(self) -> None:
        self.errors: list[str] = []

    def error(self, text: str, **_: Any) -> None:
        self.errors.append(text)


class NoTopic:
    def has_subscriber(self) -> bool:
        return False


BOX = Box(1.0, 2.0, 30.0, 20.0, "car", (0, 0, 255))


@pytest.mark.parametrize(
    ("failing", "left_out"), [("draw_boxes", "boxes are"), ("tint_road", "road (drivable area) is")]
)
def test_only_the_overlay_that_fails_is_left_out(
    monkeypatch: pytest.MonkeyPatch, failing: str, left_out: str
) -> None:
    drawn: list[str] = []

    def draw(name: str) -> Callable[..., None]:
        def function(target: Any, overlay: Any, *_: Any) -> None:
            if name == failing and overlay:
                raise KeyError("planted")
            if overlay:
                drawn.append(name)

        return function

    for name in ("draw_boxes", "tint_road"):
        monkeypatch.setattr(f"unirestore_ros.display.canvas.{name}", draw(name))
    log = Log()
    outputs = Outputs(NoTopic(), NoTopic(), None)
    compositor = Compositor(Sources(0.5, 0.5), outputs, DisplayParameters(), ErrorLog(log))
    pixels = np.full((48, 64, 3), 90, np.uint8)
    scene = Scene(
        view=View.RESTORED,
        status=FrameStatus.RESTORED,
        reason="",
        image=pixels,
        boxes=(BOX,),
        area=Area(0, np.full((4, 4), 255, np.uint8)),
    )
    canvas = compositor._compose(scene)
    compositor.stop()
    other = {"draw_boxes": "tint_road", "tint_road": "draw_boxes"}[failing]
    assert drawn[-1] == other
    assert canvas[100, 300].tolist() == [90, 90, 90]
    assert log.errors == [f"{left_out} left out, which cannot be drawn: KeyError: 'planted'"]


def test_an_output_that_fails_takes_nothing_from_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = Log()
    outputs = Outputs(NoTopic(), NoTopic(), None)
    compositor = Compositor(Sources(0.5, 0.5), outputs, DisplayParameters(), ErrorLog(log))
    compositor.stop()
    made: list[str] = []

    def fail(snapshot: module.Snapshot) -> bool:
        raise KeyError("planted")

    monkeypatch.setattr(compositor, "_update_page", fail)

    def make(snapshot: module.Snapshot) -> bool:
        made.append("canvas")
        return True

    monkeypatch.setattr(compositor, "_update_canvas", make)
    compositor._update(None)
    assert made == ["canvas"]
    assert "KeyError: 'planted'" in log.errors[0]
