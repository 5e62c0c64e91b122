"""`driver_display` beside the real `restore_node`, over DDS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from display_drive import FRAME, PATIENT, SIZE, Display
from display_page import Viewer
from ros_miniature import HEIGHT, WIDTH, expected_image
from ros_process import NodeProcess
from ros_station import values_of
from sensor_msgs.msg import CompressedImage, Image

from unirestore_ros.display.canvas import COLOURS
from unirestore_ros.display.selection import FrameStatus

pytestmark = pytest.mark.dds


@pytest.fixture(scope="module")
def drive(display_of: Callable[..., Display]) -> Display:
    return display_of(*PATIENT)


def pixels(message: Image) -> np.ndarray:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)


def status_of(message: Image) -> FrameStatus | None:
    """Read the status off the colour of the strip."""
    colour = tuple(pixels(message)[-4, 4].tolist())
    return next((status for status in FrameStatus if COLOURS[status] == colour), None)


def test_the_composed_image_is_the_restored_one(drive: Display) -> None:
    shown = drive.receive(Image, "image", lambda m: status_of(m) is FrameStatus.RESTORED)
    assert (shown.width, shown.height, shown.encoding) == (*SIZE, "bgr8")
    assert shown.header.frame_id == "front"
    restored = cv2.resize(expected_image(FRAME)[..., ::-1], (272, 204))
    part = pixels(shown)[:204, 24 : 24 + 272]
    assert np.abs(part.astype(int) - restored).mean() < 2


def test_the_composed_image_as_jpeg(drive: Display) -> None:
    shown = drive.receive(CompressedImage, "image/compressed", lambda m: True)
    assert shown.format == "bgr8; jpeg compressed bgr8"
    decoded = cv2.imdecode(np.frombuffer(shown.data, np.uint8), 1)
    assert decoded.shape == (SIZE[1], SIZE[0], 3)


def test_the_display_publishes_diagnostics(drive: Display) -> None:
    drive.receive(Image, "image", lambda m: status_of(m) is FrameStatus.RESTORED)
    name = f"{drive.station.namespace}/driver_display"
    inbox = drive.station.subscribe("/diagnostics", DiagnosticArray)

    def mine() -> Any:
        found = [s for array in inbox.messages for s in array.status if s.name == name]
        return next((s for s in found if values_of(s).get("share_median_ms")), None)

    status = drive.station.wait(mine, "diagnostics of the display")
    drive.station.unsubscribe("/diagnostics")
    assert float(values_of(status)["compose_median_ms"]) > 0


def run_page(drive: Display, act: Callable[[Viewer], Any]) -> None:
    """One client of the page, while the camera sends frames."""

    async def send() -> None:
        loop = asyncio.get_running_loop()
        while True:
            await loop.run_in_executor(None, drive.send)

    async def run() -> None:
        async with (
            aiohttp.ClientSession(drive.url) as session,
            session.ws_connect("/frames", max_msg_size=0) as socket,
        ):
            sending = asyncio.create_task(send())
            try:
                await asyncio.wait_for(act(Viewer(socket)), 90)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    asyncio.run(run())


def decoded(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1)[..., ::-1]


def difference(jpeg: bytes, rgb: np.ndarray) -> float:
    return float(np.abs(decoded(jpeg).astype(int) - rgb).mean())


def test_the_page_gets_the_restored_image_and_its_camera_frame(drive: Display) -> None:
    async def watch(viewer: Viewer) -> None:
        header, parts = await viewer.until(lambda h: h["status"] == "restored")
        assert header["size"] == [WIDTH, HEIGHT] and header["frame_id"] == "front"
        assert 0 < header["age_ms"] < 10000
        assert difference(parts["driver"], expected_image(FRAME)) < 4
        await viewer.say("stream", "both")
        while "camera" not in parts:
            _, parts = await viewer.frame()
        assert difference(parts["camera"], FRAME) < 4
        assert difference(parts["driver"], expected_image(FRAME)) < 4
        await viewer.say("stream", "camera")
        while "driver" in parts:
            header, parts = await viewer.frame()
        assert header["status"] == "camera" and difference(parts["camera"], FRAME) < 4

    run_page(drive, watch)


def test_restoring_is_switched_off_and_on_again_from_the_page(drive: Display) -> None:
    async def watch(viewer: Viewer) -> None:
        await viewer.until(lambda h: h["status"] == "restored")
        viewer.states.clear()
        await viewer.say("enable", False)
        header, parts = await viewer.until(lambda h: h["status"] == "camera")
        assert header["reason"] == "disabled"
        assert difference(parts["driver"], FRAME) < 4
        while not any(state["enabled"] is False for state in viewer.states):
            await viewer.frame()
        await viewer.say("enable", True)
        await viewer.until(lambda h: h["status"] == "restored")

    run_page(drive, watch)


def test_the_view_may_change_at_run_time(drive: Display) -> None:
    set_view(drive, "raw")
    shown = drive.receive(Image, "image", lambda m: status_of(m) is FrameStatus.CAMERA)
    camera = cv2.resize(FRAME[..., ::-1], (272, 204))
    assert np.abs(pixels(shown)[:204, 24 : 24 + 272].astype(int) - camera).mean() < 2
    set_view(drive, "restored")


def set_view(drive: Display, view: str) -> None:
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter

    request = SetParameters.Request(parameters=[Parameter("view", value=view).to_parameter_msg()])
    service = f"{drive.station.namespace}/driver_display/set_parameters"
    client: Any = drive.station.node.create_client(SetParameters, service)
    drive.station.wait(client.service_is_ready, service)
    asked = client.call_async(request)
    drive.station.wait(asked.done, "the parameter's answer")
    assert asked.result().results[0].successful


@pytest.mark.ros_smoke
def test_a_camera_that_cannot_be_shown_is_named(display_of: Callable[..., Display]) -> None:
    drive = display_of("max_age_ms:=1500", "fallback_after_ms:=1000")
    drive.receive(Image, "image", lambda m: status_of(m) is FrameStatus.RESTORED)
    assert drive.restorer.end() == 0
    inbox = drive.station.subscribe(f"{drive.station.namespace}/driver_display/image")
    diagnostics = drive.station.subscribe("/diagnostics", DiagnosticArray)

    def said() -> bool:
        drive.send(Image(height=2, width=2, step=4, encoding="16UC1", data=bytes(8)))
        name = f"{drive.station.namespace}/driver_display"
        messages = [s.message for a in diagnostics.messages for s in a.status if s.name == name]
        return any(each.startswith("no picture: encoding '16UC1'") for each in messages)

    drive.station.wait(said, "what cannot be shown")
    drive.station.wait(
        lambda: inbox.messages and status_of(inbox.messages[-1]) is FrameStatus.NO_PICTURE,
        "the image that says so",
    )


def test_falls_back_to_the_camera_and_becomes_stale(
    display_of: Callable[..., Display],
) -> None:
    drive = display_of("max_age_ms:=1500", "fallback_after_ms:=1000")
    drive.receive(Image, "image", lambda m: status_of(m) is FrameStatus.RESTORED)
    drive.restorer.end()
    fallen = drive.receive(Image, "image", lambda m: status_of(m) is FrameStatus.CAMERA)
    camera = cv2.resize(FRAME[..., ::-1], (272, 204))
    assert np.abs(pixels(fallen)[:204, 24 : 24 + 272].astype(int) - camera).mean() < 2
    topic = f"{drive.station.namespace}/driver_display/image"
    inbox = drive.station.subscribe(topic)
    drive.receive(CompressedImage, "image/compressed", lambda m: True)  # the camera's last frame
    stale = drive.station.wait(
        lambda: next((m for m in inbox.messages if status_of(m) is FrameStatus.STALE), None),
        "STALE",
    )
    assert pixels(stale)[:204].mean() < pixels(fallen)[:204].mean()
    assert drive.display.end() == 0


def test_refuses_to_start_with_a_reason(start_node: Callable[..., NodeProcess]) -> None:
    reasons = {
        "page_address:=0.0.0.0": "page_token must be set",
        "view:=best": "view: 'best' is not one of",
    }
    displays = {start_node(one, command="driver_display"): why for one, why in reasons.items()}
    for display, why in displays.items():
        assert display.process.wait(60) == 2
        assert why in display.said() and "Traceback" not in display.said()


def test_the_state_has_the_names_that_the_page_reads(drive: Display) -> None:
    """The state's names are what app.js reads."""

    async def watch(viewer: Viewer) -> None:
        while not viewer.states:
            await viewer.frame()
        state = viewer.states[-1]
        assert json.loads(json.dumps(state))["kind"] == "state"
        assert {"status", "reason", "enabled", "restorer", "tasks", "view", "divider"} <= set(state)
        assert {"max_age_ms", "notice"} <= set(state)
        assert state["restorer"]["name"] == f"{drive.station.namespace}/unirestore"

    run_page(drive, watch)
