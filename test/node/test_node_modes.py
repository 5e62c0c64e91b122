"""Camera mode and the way back, malformed frames, reload: a node, a camera and who listens."""

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
from ros_station import Ear, Station, camera_info, image, stamp_of, values_of
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
def out(station: Station) -> Ear:
    """The driver's image, restored: whatever a test before left behind is over."""
    ear = station.listen("image")
    play(station, lambda: ear.heard and is_restored(ear.heard[-1]), "restored frames")
    ear.heard.clear()
    return ear


def test_disabled_and_enabled_again(station: Station, out: Ear) -> None:
    status = station.listen("status", DiagnosticArray)
    features = station.listen("segmentation/features")
    answer = station.set_enabled(False)
    assert (answer.success, answer.message) == (True, "camera mode")
    # What was on its way may still come; after it, not one restored frame.
    station.pause(0.2)
    out.heard.clear()
    features.heard.clear()
    sent = [station.send(image(BGR, "bgr8"))]
    for _ in range(9):
        station.wait(lambda: sent[-1] in out.stamps(), "the camera's frame")
        sent.append(station.send(image(BGR, "bgr8")))
    station.wait(lambda: sent[-1] in out.stamps(), "the camera's last frame")
    assert out.stamps() == sent and all(map(is_cameras, out.heard))
    assert features.heard == []
    said = station.wait(lambda: status.of(sent[-1]), "the frame's status")
    assert values_of(said.status[0])["mode"] == "camera" and said.status[0].message == "disabled"
    assert station.set_enabled(True).success
    play(station, lambda: is_restored(out.heard[-1]), "restored frames")
    check_order(out)
    station.wait(lambda: features.heard, "features again")


def check_order(out: Ear) -> None:
    """No frame is shown twice, and none after a newer one, whatever the mode."""
    stamps = out.stamps()
    assert stamps == sorted(set(stamps))


def test_another_size_is_passed_on_at_once_and_named(station: Station, out: Ear) -> None:
    large = frame(seed=2, size=(80, 60))
    sent = station.send(image(large, "rgb8", padding=4))
    answer = station.wait(lambda: out.of(sent), "the frame itself")
    assert (answer.width, answer.height, answer.encoding) == (80, 60, "rgb8")
    rows = np.frombuffer(answer.data, np.uint8).reshape(60, -1)[:, : 80 * 3]
    np.testing.assert_array_equal(rows, large.reshape(60, -1))
    status = station.diagnosis(lambda s: "camera mode" in s.message, "camera mode")
    assert "frames are 80x60, the bundle miniature takes 64x48" in status.message
    assert "python -m unirestore_ros build" in status.message and "--size 80x60" in status.message
    assert status.level == DiagnosticStatus.WARN
    play(station, lambda: is_restored(out.heard[-1]), "restored frames")
    check_order(out)


def test_an_unknown_encoding_passes_byte_for_byte(station: Station, out: Ear) -> None:
    depth = Image(height=3, width=5, encoding="16UC1", step=11, is_bigendian=1)
    depth.data = array.array("B", range(33))
    sent = station.send(depth)
    answer = station.wait(lambda: out.of(sent), "the frame itself")
    answer.header = depth.header
    assert answer == depth


@pytest.mark.parametrize("encoding", ["bayer_grbg8", "yuv422_yuy2"])
def test_camera_mode_converts_what_the_contract_says(
    station: Station, out: Ear, encoding: str
) -> None:
    station.set_enabled(False)
    pixels = BGR[..., 0] if encoding.startswith("bayer") else BGR[..., :2]
    code = {"bayer_grbg8": cv2.COLOR_BayerGB2BGR, "yuv422_yuy2": cv2.COLOR_YUV2BGR_YUY2}[encoding]
    answer = station.exchange(image(pixels, encoding, padding=2), out)
    station.set_enabled(True)
    assert answer.encoding == "bgr8" and answer.step == WIDTH * 3
    expected = cv2.cvtColor(np.ascontiguousarray(pixels), code)
    np.testing.assert_array_equal(np.frombuffer(answer.data, np.uint8), expected.reshape(-1))


def test_camera_mode_compresses_and_passes_camera_info(station: Station, out: Ear) -> None:
    jpeg = station.listen("image/compressed", CompressedImage)
    info = station.listen("camera_info", CameraInfo)
    scaled = station.listen("segmentation/camera_info", CameraInfo)
    station.set_enabled(False)
    station.send(camera_info(WIDTH, HEIGHT), "camera_info")
    station.pause(0.2)
    scaled.heard.clear()
    answer = station.exchange(image(BGR, "bgr8"), jpeg)
    expected = cv2.imencode(".jpg", BGR, (cv2.IMWRITE_JPEG_QUALITY, 90))[1]
    assert bytes(answer.data) == expected.tobytes()
    station.wait(lambda: info.of(stamp_of(answer)), "the frame's CameraInfo")
    assert scaled.heard == []
    station.set_enabled(True)


def test_a_network_that_fails_gives_way_to_the_camera(station: Station, out: Ear) -> None:
    """And takes over again when frames succeed, not before."""
    station.set_parameters(fallback_after_ms=500)
    broken = image(frame(failing=TRUNK_FAILS)[..., ::-1], "bgr8")
    play(station, lambda: out.heard, "the camera's frames", broken)
    assert bytes(out.heard[0].data) == bytes(broken.data)
    count = len(out.heard)
    play(station, lambda: len(out.heard) > count + 20, "more of the camera's frames", broken)
    assert all(bytes(answer.data) == bytes(broken.data) for answer in out.heard)
    status = station.diagnosis(lambda s: "no output" in s.message, "the stall")
    assert "onnxruntime/trunk.onnx" in values_of(status)["last_error"]
    assert int(values_of(status)["dropped_failed"]) > 3
    play(station, lambda: is_restored(out.heard[-1]), "restored frames")
    check_order(out)
    station.set_parameters(fallback_after_ms=30000)


def test_a_network_that_is_too_slow_stays_beside_the_camera(station: Station, out: Ear) -> None:
    """It succeeds each time, but so late that it would stall again at once."""
    station.set_parameters(fallback_after_ms=10)
    slow = image(frame(work=60)[..., ::-1], "bgr8")
    play(station, lambda: out.heard and is_own(out.heard[-1], slow), "the camera's frames", slow)
    count = len(out.heard)
    play(station, lambda: len(out.heard) > count + 20, "more of the camera's frames", slow)
    assert all(is_own(answer, slow) for answer in out.heard[count:])
    station.set_parameters(fallback_after_ms=30000)
    play(station, lambda: not is_own(out.heard[-1], slow), "restored frames", slow)


def is_own(answer: Image, sent: Image) -> bool:
    return bytes(answer.data) == bytes(sent.data)


@pytest.mark.parametrize("enabled", [True, False])
def test_malformed_frames_are_dropped_counted_and_named(
    station: Station, out: Ear, enabled: bool
) -> None:
    """One kind of many; all of them are tested where they are told."""
    station.set_enabled(enabled)
    bad = image(BGR, "bgr8")
    bad.height += 1
    before = int(values_of(station.diagnosis(lambda s: True, "any"))["dropped_malformed"])
    out.heard.clear()
    station.send(bad)
    status = station.diagnosis(
        lambda s: int(values_of(s)["dropped_malformed"]) > before, "the malformed frame"
    )
    assert "9216 bytes of data instead of 9408" in values_of(status)["last_error"]
    assert out.heard == []
    if enabled:
        assert status.level == DiagnosticStatus.WARN and "malformed" in status.message
    station.set_enabled(True)


def test_reload_reads_the_bundle_again(
    station: Station, out: Ear, miniature: Path, tmp_path: Path
) -> None:
    answer = station.reload()
    assert (answer.success, answer.message) == (True, f"read {miniature}")
    nowhere = tmp_path / "nowhere"
    station.set_parameters(bundle=str(nowhere))
    answer = station.reload()
    assert not answer.success and f"bundle {nowhere}: there is no such folder" in answer.message
    assert "python -m unirestore_ros build" in answer.message
    out.heard.clear()
    play(station, lambda: out.heard and is_restored(out.heard[-1]), "the bundle from before")
    station.set_parameters(bundle=str(miniature))
    assert station.reload().success
