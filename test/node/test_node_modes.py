"""Camera mode and the way back, malformed frames, reload: a node, a camera and subscribers."""

from __future__ import annotations

import array
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from ros_miniature import HEIGHT, TRUNK_FAILS, WIDTH, expected_image, frame
from ros_station import Inbox, Station, camera_info, image, stamp_of, values_of
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

pytestmark = pytest.mark.dds

BGR = frame(seed=1)[..., ::-1]


def is_restored(answer: Image) -> bool:
    pixels = np.frombuffer(answer.data, np.uint8)
    return bool(np.array_equal(pixels, expected_image(BGR[..., ::-1])[..., ::-1].reshape(-1)))


def is_cameras(answer: Image) -> bool:
    return bool(np.array_equal(np.frombuffer(answer.data, np.uint8), BGR.reshape(-1)))


def play(
    station: Station, condition: Callable[[], object], what: str, sent: Image | None = None
) -> None:
    """Send frames at a modest rate until the condition is met."""
    last = 0.0

    def met() -> bool:
        nonlocal last
        if time.monotonic() - last > 0.05:
            last = time.monotonic()
            station.send(sent or image(BGR, "bgr8"))
        return bool(condition())

    station.wait(met, what)


@pytest.fixture
def out(station: Station) -> Inbox:
    """The driver's image, restored: whatever a test before left behind is over."""
    inbox = station.subscribe("image")
    play(station, lambda: inbox.messages and is_restored(inbox.messages[-1]), "restored frames")
    inbox.messages.clear()
    return inbox


@pytest.mark.ros_smoke
def test_disabled_and_enabled_again(station: Station, out: Inbox) -> None:
    status = station.subscribe("status", DiagnosticArray)
    features = station.subscribe("segmentation/features")
    answer = station.set_enabled(False)
    assert (answer.success, answer.message) == (True, "camera mode")
    sent: list[int] = []
    for _ in range(10):
        sent.append(station.send(image(BGR, "bgr8")))
        station.wait(lambda: sent[-1] in out.stamps(), "the camera's frame")
    # What was on its way may come before the first of them; after it, not one restored frame.
    shown = [message for message in out.messages if stamp_of(message) >= sent[0]]
    assert [stamp_of(message) for message in shown] == sent and all(map(is_cameras, shown))
    assert [stamp for stamp in features.stamps() if stamp >= sent[0]] == []
    said = station.wait(lambda: status.of(sent[-1]), "the frame's status")
    assert values_of(said.status[0])["mode"] == "camera" and said.status[0].message == "disabled"
    assert station.set_enabled(True).success
    play(station, lambda: is_restored(out.messages[-1]), "restored frames")
    check_order(out)
    station.wait(lambda: features.stamps()[-1:] > sent[-1:], "features again")


def check_order(out: Inbox) -> None:
    """No frame is shown twice, and none after a newer one, whatever the mode."""
    stamps = out.stamps()
    assert stamps == sorted(set(stamps))


def test_a_size_out_of_range_is_relayed_at_once_and_named(station: Station, out: Inbox) -> None:
    large = frame(seed=2, size=(80, 16))
    sent = station.send(image(large, "rgb8", padding=4))
    answer = station.wait(lambda: out.of(sent), "the frame itself")
    assert (answer.width, answer.height, answer.encoding) == (80, 16, "rgb8")
    rows = np.frombuffer(answer.data, np.uint8).reshape(16, -1)[:, : 80 * 3]
    np.testing.assert_array_equal(rows, large.reshape(16, -1))
    status = station.diagnosis(lambda s: "camera mode" in s.message, "camera mode")
    assert "frames are 80x16: the longer side is over 4 times the shorter" in status.message
    assert status.level == DiagnosticStatus.WARN
    play(station, lambda: is_restored(out.messages[-1]), "restored frames")
    check_order(out)


def test_an_unknown_encoding_passes_byte_for_byte(station: Station, out: Inbox) -> None:
    depth = Image(height=3, width=5, encoding="16UC1", step=11, is_bigendian=1)
    depth.data = array.array("B", range(33))
    sent = station.send(depth)
    answer = station.wait(lambda: out.of(sent), "the frame itself")
    answer.header = depth.header
    assert answer == depth


@pytest.mark.parametrize("encoding", ["bayer_grbg8", "yuv422_yuy2"])
def test_camera_mode_converts_what_the_contract_says(
    station: Station, out: Inbox, encoding: str
) -> None:
    station.set_enabled(False)
    pixels = BGR[..., 0] if encoding.startswith("bayer") else BGR[..., :2]
    code = {"bayer_grbg8": cv2.COLOR_BayerGB2BGR, "yuv422_yuy2": cv2.COLOR_YUV2BGR_YUY2}[encoding]
    answer = station.exchange(image(pixels, encoding, padding=2), out)
    station.set_enabled(True)
    assert answer.encoding == "bgr8" and answer.step == WIDTH * 3
    expected = cv2.cvtColor(np.ascontiguousarray(pixels), code)
    np.testing.assert_array_equal(np.frombuffer(answer.data, np.uint8), expected.reshape(-1))


def test_camera_mode_compresses_and_passes_camera_info(station: Station, out: Inbox) -> None:
    jpeg = station.subscribe("image/compressed", CompressedImage)
    info = station.subscribe("camera_info", CameraInfo)
    scaled = station.subscribe("segmentation/camera_info", CameraInfo)
    station.set_enabled(False)
    station.send(camera_info(WIDTH, HEIGHT), "camera_info")
    answer = station.exchange(image(BGR, "bgr8"), jpeg, info)
    expected = cv2.imencode(".jpg", BGR, (cv2.IMWRITE_JPEG_QUALITY, 90))[1]
    assert bytes(answer.data) == expected.tobytes()
    assert [stamp for stamp in scaled.stamps() if stamp >= stamp_of(answer)] == []
    station.set_enabled(True)


def test_a_network_that_fails_gives_way_to_the_camera(station: Station, out: Inbox) -> None:
    """At once, frame by frame; three in a row are a fault of the engine, which is started again
    and takes over when frames succeed, not before."""
    said = station.subscribe("status", DiagnosticArray)
    broken = image(frame(failing=TRUNK_FAILS)[..., ::-1], "bgr8")
    play(station, lambda: out.messages, "the camera's frames", broken)
    assert bytes(out.messages[0].data) == bytes(broken.data)
    told = "3 frames in a row failed: onnxruntime/trunk.onnx"
    errors = station.subscribe("/diagnostics", DiagnosticArray)

    def counted() -> bool:
        told_of = [m.status[0] for m in errors.messages if told in m.status[0].message]
        assert {status.level for status in told_of} <= {DiagnosticStatus.ERROR}
        assert all("it is started again in" in status.message for status in told_of)
        return any(int(values_of(status)["dropped_failed"]) >= 3 for status in told_of)

    play(station, counted, told, broken)
    assert {values_of(m.status[0])["mode"] for m in said.messages} == {"camera"}
    count = len(out.messages)
    play(station, lambda: len(out.messages) > count + 20, "more of the camera's frames", broken)
    assert all(bytes(answer.data) == bytes(broken.data) for answer in out.messages)
    play(station, lambda: is_restored(out.messages[-1]), "restored frames")
    check_order(out)


def test_a_network_that_is_too_slow_stays_beside_the_camera(station: Station, out: Inbox) -> None:
    """It succeeds each time, but so late that it would stall again at once."""
    station.set_parameters(fallback_after_ms=10)
    slow = image(frame(work=60)[..., ::-1], "bgr8")
    play(
        station,
        lambda: out.messages and is_own(out.messages[-1], slow),
        "the camera's frames",
        slow,
    )
    count = len(out.messages)
    play(station, lambda: len(out.messages) > count + 20, "more of the camera's frames", slow)
    assert all(is_own(answer, slow) for answer in out.messages[count:])
    station.set_parameters(fallback_after_ms=30000)
    play(station, lambda: not is_own(out.messages[-1], slow), "restored frames", slow)


def is_own(answer: Image, sent: Image) -> bool:
    return bytes(answer.data) == bytes(sent.data)


@pytest.mark.parametrize("enabled", [True, False])
def test_malformed_frames_are_dropped_counted_and_named(
    station: Station, out: Inbox, enabled: bool
) -> None:
    """One kind of many; all of them are tested where they are told."""
    station.set_enabled(enabled)
    bad = image(BGR, "bgr8")
    bad.height += 1
    before = int(values_of(station.diagnosis(lambda s: True, "any"))["dropped_malformed"])
    out.messages.clear()
    station.send(bad)
    status = station.diagnosis(
        lambda s: int(values_of(s)["dropped_malformed"]) > before, "the malformed frame"
    )
    assert "9216 bytes of data instead of 9408" in values_of(status)["last_error"]
    assert out.messages == []
    if enabled:
        assert status.level == DiagnosticStatus.WARN and "malformed" in status.message
    station.set_enabled(True)


@pytest.mark.ros_smoke
def test_reload_reads_the_bundle_again(
    station: Station, out: Inbox, miniature: Path, tmp_path: Path
) -> None:
    answer = station.reload()
    assert (answer.success, answer.message) == (True, f"read {miniature}")
    nowhere = tmp_path / "nowhere"
    station.set_parameters(bundle=str(nowhere))
    answer = station.reload()
    assert not answer.success and f"bundle {nowhere}: there is no such folder" in answer.message
    assert "python -m unirestore_ros build" in answer.message
    out.messages.clear()
    play(station, lambda: out.messages and is_restored(out.messages[-1]), "the bundle from before")
    station.set_parameters(bundle=str(miniature))
    assert station.reload().success
