"""What the display makes of cameras that are odd: their clock, their stamps, their encoding."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from camera_images import image_of_bytes
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import ROSClock
from rclpy.serialization import serialize_message
from ros_station import image
from sensor_msgs.msg import CompressedImage, Image

from unirestore_ros.display.inputs import Inputs
from unirestore_ros.display.parameters import DisplayParameters
from unirestore_ros.display.selection import FrameStatus, Selected
from unirestore_ros.display.sources import BufferedFrame, Sources
from unirestore_ros.node.diagnostics import AGE_NOTE

RGB = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
S = 10**9


class Log:
    def warning(self, text: str, **_: Any) -> None:
        pass


class Node:
    """As much of a node as reading messages needs."""

    def resolve_topic_name(self, name: str) -> str:
        return f"/{name}"

    def get_clock(self) -> ROSClock:
        return ROSClock()

    def get_logger(self) -> Log:
        return Log()


def raising(error: Exception) -> None:
    raise error


class Display:
    """The display's inputs, given messages by hand."""

    def __init__(self, **parameters: Any) -> None:
        self.sources = Sources(max_age=0.5, fallback_after=0.5)
        settings = DisplayParameters(**parameters)
        self.inputs = Inputs(Node(), settings, self.sources, lambda: None, raising)

    def camera(self, message: Image | CompressedImage, stamp_ns: int) -> None:
        self.inputs._receive_camera_frame(serialized(message, stamp_ns))

    def restored(self, message: Image | CompressedImage, stamp_ns: int) -> None:
        self.inputs._receive_restored_frame(serialized(message, stamp_ns), {})

    def status(
        self, stamp_ns: int, message: str = "restored", mode: str = "restored", **values: str
    ) -> None:
        pairs = [KeyValue(key=key, value=value) for key, value in {"mode": mode, **values}.items()]
        array = DiagnosticArray(status=[DiagnosticStatus(message=message, values=pairs)])
        array.header.stamp = Time(sec=stamp_ns // S, nanosec=stamp_ns % S)
        self.inputs._receive_status(array, {})

    def shown(self) -> Selected[BufferedFrame]:
        return self.sources.snapshot().driver


def serialized(message: Image | CompressedImage, stamp_ns: int) -> bytes:
    message.header.stamp = Time(sec=stamp_ns // S, nanosec=stamp_ns % S)
    return serialize_message(message)


def frame() -> Image:
    return image(RGB, "rgb8")


def note_of(shown: Selected[BufferedFrame]) -> str:
    assert shown.frame is not None
    return shown.frame.age_note


@pytest.mark.parametrize(
    ("stamp_of", "note"),
    [
        (lambda now: now - 12 * S, "age unknown: camera clock is 12."),
        (lambda now: now + 3600 * S, "age unknown: camera clock is 3"),
        (lambda now: 4321 * S, "behind"),
        (lambda now: 0, "the camera's stamps are zero, frames are paired by order"),
    ],
    ids=["12 s behind", "an hour ahead", "boot time", "zero"],
)
def test_frames_of_another_clock_are_shown_and_their_age_is_unknown(
    stamp_of: Callable[[int], int], note: str
) -> None:
    display = Display()
    display.camera(frame(), stamp := stamp_of(time.time_ns()))
    shown = display.shown()
    assert shown.status is FrameStatus.CAMERA and note in note_of(shown)
    display.restored(frame(), stamp)
    display.status(stamp)
    shown = display.shown()
    assert shown.status is FrameStatus.RESTORED and note in note_of(shown)
    assert display.sources.snapshot().driver_input is not None


def test_a_restored_frame_counts_from_its_camera_frames_arrival() -> None:
    """What restoring took is known, whatever the camera's clock shows."""
    display = Display()
    stamp = time.time_ns() - 12 * S
    display.camera(frame(), stamp)
    time.sleep(0.1)
    display.restored(frame(), stamp)
    display.status(stamp)
    shown = display.shown().frame
    assert shown is not None and shown.frame.arrived - shown.captured >= 0.1


def test_slow_restoring_is_no_other_clock() -> None:
    """The camera's frames are fresh: a restored one of 2 s ago is old."""
    display = Display()
    for age in (0, 2):
        display.camera(frame(), time.time_ns())
        stamp = time.time_ns() - age * S
        display.restored(frame(), stamp)
        display.status(stamp)
    assert note_of(display.shown()) == ""
    assert display.shown().status is FrameStatus.CAMERA


def test_without_the_cameras_frames_the_restorer_knows() -> None:
    display = Display()
    stamp, note = time.time_ns() - 12 * S, "age unknown: camera clock is 12.0 s behind"
    display.status(stamp, f"disabled; {note}", mode="camera", **{AGE_NOTE: note})
    display.restored(frame(), stamp)
    shown = display.shown()
    assert (shown.status, shown.reason) == (FrameStatus.CAMERA, "disabled")
    assert note_of(shown) == note


@pytest.mark.parametrize("encoding", ["nv12", "nv21", "nv24", "mono16", "bayer_rggb16"])
def test_encodings_that_are_shown(encoding: str) -> None:
    display = Display()
    display.camera(image_of_bytes(RGB, encoding), time.time_ns())
    shown = display.shown()
    assert shown.status is FrameStatus.CAMERA and shown.frame is not None
    assert shown.frame.pixels.shape == RGB.shape and shown.frame.pixels.std() > 3


@pytest.mark.parametrize("encoding", ["16UC1", "h264", "8UC3", ""])
def test_what_cannot_be_shown_is_named(encoding: str) -> None:
    """Never an endless WAITING, whichever of the two sends it."""
    for receive in (Display.camera, Display.restored):
        display = Display()
        message = frame()
        message.encoding = encoding
        receive(display, message, time.time_ns())
        for shown in (display.shown(), display.sources.snapshot().camera):
            assert shown.status is FrameStatus.NO_PICTURE
            assert shown.reason.startswith(f"encoding {encoding!r}")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("h264", "format 'h264'"),
        ("hevc; ffmpeg", "format 'hevc; ffmpeg'"),
        ("theora", "format 'theora'"),
        ("16UC1; compressedDepth png", "is a depth image"),
    ],
)
def test_a_codec_that_cannot_be_shown_is_named(kind: str, reason: str) -> None:
    """With the command that makes raw images of it, whichever of the two sends it."""
    for receive in (Display.camera, Display.restored):
        display = Display(input_transport="compressed")
        receive(display, CompressedImage(format=kind, data=bytes(range(200))), time.time_ns())
        for shown in (display.shown(), display.sources.snapshot().camera):
            assert shown.status is FrameStatus.NO_PICTURE
            assert reason in shown.reason
            assert "Depth" in kind or "republish" in shown.reason


def test_a_jpeg_after_another_codec_is_shown() -> None:
    display = Display(input_transport="compressed")
    display.camera(CompressedImage(format="h264", data=bytes(200)), time.time_ns())
    jpeg = cv2.imencode(".jpg", RGB[..., ::-1])[1].tobytes()
    display.camera(CompressedImage(format="bgr8; jpeg compressed bgr8", data=jpeg), time.time_ns())
    assert display.shown().status is FrameStatus.CAMERA


def test_malformed_images_are_named() -> None:
    """Without a frame there is no picture, after one it is stale; then it is the camera again."""
    display = Display()
    broken = frame()
    broken.step = 1
    display.camera(broken, time.time_ns())
    shown = display.shown()
    assert shown.status is FrameStatus.NO_PICTURE and shown.frame is None
    assert shown.reason.startswith("a malformed image: step 1")
    display.camera(frame(), time.time_ns() - S)
    display.restored(broken, time.time_ns())
    shown = display.shown()
    assert shown.status is FrameStatus.STALE
    assert shown.reason.startswith("a malformed image: step 1")
    display.camera(frame(), time.time_ns())
    assert display.shown().status is FrameStatus.CAMERA


def test_an_assumed_encoding_is_shown() -> None:
    display = Display(assume_encoding="bgr8")
    display.camera(image(RGB[..., ::-1], "8UC3"), time.time_ns())
    shown = display.shown()
    assert shown.status is FrameStatus.CAMERA and shown.frame is not None
    np.testing.assert_array_equal(shown.frame.pixels, RGB[..., ::-1])


def test_a_picture_comes_back() -> None:
    display = Display()
    display.camera(
        Image(height=2, width=2, step=4, encoding="16UC1", data=bytes(8)), time.time_ns()
    )
    display.camera(frame(), time.time_ns())
    assert display.shown().status is FrameStatus.CAMERA


def test_a_frame_that_does_not_decode_is_taken_back() -> None:
    display = Display()
    display.camera(frame(), time.time_ns())
    shown = display.shown().frame
    assert shown is not None
    shown.refused = "it does not decode"
    display.sources.add_refused_frame(shown)
    assert display.shown().status is FrameStatus.NO_PICTURE
    assert display.shown().reason == "it does not decode"
