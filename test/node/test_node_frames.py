"""Frames over DDS in restored mode: encodings, padding, headers, CameraInfo, features, and that
nothing is computed for nobody."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from camera_images import image_of_bytes
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_miniature import (
    ADAPTER_FAILS,
    CHANNELS,
    DECODER_FAILS,
    HEIGHT,
    TRUNK_FAILS,
    WIDTH,
    H,
    W,
    expected_features,
    expected_image,
    frame,
)
from ros_station import Inbox, Station, camera_info, stamp_of, values_of
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest

from unirestore_ros.msgs.encodings import ENCODINGS, to_rgb
from unirestore_ros.msgs.transport import profile_variable

pytestmark = pytest.mark.dds

RGB = frame(seed=1)


def message(encoding: str = "bgr8", padding: int = 0, rgb: NDArray[np.uint8] = RGB) -> Image:
    """A frame in an encoding; for those that RGB does not give, its bytes as they fall."""
    return image_of_bytes(rgb, encoding, padding)


def pixels_of(answer: Image) -> NDArray[np.uint8]:
    return np.frombuffer(answer.data, np.uint8).reshape(answer.height, answer.width, -1)


def rgb_of(answer: Image) -> NDArray[np.uint8]:
    order = {"rgb8": [0, 1, 2], "bgr8": [2, 1, 0], "rgba8": [0, 1, 2], "bgra8": [2, 1, 0]}
    return pixels_of(answer)[..., order[answer.encoding]]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding(station: Station, encoding: str) -> None:
    """The conversion itself is tested against references of its own."""
    out = station.subscribe("image")
    sent = message(encoding, padding=0 if encoding == "rgb8" else 13)
    answer = station.exchange(sent, out)
    seen = to_rgb(sent, np.empty((HEIGHT, WIDTH, 3), np.uint8))
    kept = encoding in ("bgr8", "rgb8", "bgra8", "rgba8", "mono8")
    assert answer.encoding == (encoding if kept else "bgr8")
    assert (answer.width, answer.height, answer.step * HEIGHT) == (WIDTH, HEIGHT, len(answer.data))
    if encoding == "mono8":
        grey = expected_image(seen) @ np.array([0.299, 0.587, 0.114])
        np.testing.assert_allclose(pixels_of(answer)[..., 0], grey, atol=1)
    else:
        np.testing.assert_array_equal(rgb_of(answer), expected_image(seen))
    if encoding in ("rgba8", "bgra8"):
        assert (pixels_of(answer)[..., 3] == 77).all()


@pytest.mark.ros_smoke
def test_all_outputs_carry_the_frames_header_and_are_right(station: Station) -> None:
    """Image, JPEG, features, CameraInfo and task images of one frame, from one trunk."""
    images = {
        topic: station.subscribe(topic)
        for topic in ("image", "segmentation/features", "detection/features", "segmentation/image")
    }
    jpeg = station.subscribe("image/compressed", CompressedImage)
    infos = {
        topic: station.subscribe(topic, CameraInfo)
        for topic in ("camera_info", "detection/camera_info")
    }
    sent_info = camera_info(WIDTH, HEIGHT)
    station.send(sent_info, "camera_info")
    everything: dict[str, Inbox] = {**images, **infos, "image/compressed": jpeg}
    stamp = stamp_of(station.exchange(message(), *everything.values()))
    received = {topic: inbox.of(stamp) for topic, inbox in everything.items()}
    assert {one.header.frame_id for one in received.values()} == {"camera_optical"}
    np.testing.assert_array_equal(rgb_of(received["image"]), expected_image(RGB))
    np.testing.assert_array_equal(
        rgb_of(received["segmentation/image"]), expected_image(RGB, "segmentation")
    )
    for task in ("segmentation", "detection"):
        check_features(received[f"{task}/features"], task)
    check_jpeg(received["image/compressed"], received["image"])
    passed = received["camera_info"]
    passed.header = sent_info.header
    assert passed == sent_info
    check_scaled(received["detection/camera_info"])


def check_features(answer: Image, task: str) -> None:
    assert answer.encoding == f"32FC{CHANNELS}"
    assert (answer.height, answer.width, answer.step) == (H, W, W * CHANNELS * 4)
    features = np.frombuffer(answer.data, np.float32).reshape(H, W, CHANNELS)
    np.testing.assert_allclose(features, expected_features(RGB, task), atol=1e-3)


def check_jpeg(jpeg: CompressedImage, raw: Image) -> None:
    assert jpeg.format == "bgr8; jpeg compressed bgr8"
    decoded = cv2.imdecode(np.frombuffer(jpeg.data, np.uint8), cv2.IMREAD_COLOR)
    again = cv2.imencode(".jpg", pixels_of(raw), (cv2.IMWRITE_JPEG_QUALITY, 90))[1]
    np.testing.assert_array_equal(decoded, cv2.imdecode(again, cv2.IMREAD_COLOR))


def check_scaled(info: CameraInfo) -> None:
    assert (info.width, info.height) == (W, H)
    assert info.k[0] == pytest.approx(50.0 * W / WIDTH)
    assert info.k[2] == pytest.approx(32.0 * W / WIDTH - 0.5)
    assert info.p[6] == pytest.approx(23.5 * H / HEIGHT - 0.5)


def test_status_of_a_published_frame(station: Station) -> None:
    out, status = station.subscribe("image"), station.subscribe("status", DiagnosticArray)
    stamp = stamp_of(station.exchange(message(), out))
    said = station.wait(lambda: status.of(stamp), "the frame's status")
    values = values_of(said.status[0])
    assert said.header.frame_id == "camera_optical"
    assert values["mode"] == "restored"
    assert 0 < float(values["latency_ms"]) <= float(values["age_ms"]) < 1e4


def test_without_subscribers_the_camera_is_not_subscribed(station: Station) -> None:
    camera = station.camera(subscribers=0)
    station.subscribe("detection/features")
    station.wait(lambda: camera.get_subscription_count() == 1, "the node's subscription")
    station.unsubscribe("detection/features")
    station.wait(lambda: camera.get_subscription_count() == 0, "the node to unsubscribe")


@pytest.mark.parametrize(
    ("topic", "failing"),
    [
        ("image", ADAPTER_FAILS),
        ("segmentation/features", DECODER_FAILS),
        ("camera_info", TRUNK_FAILS),
    ],
)
def test_what_nobody_subscribes_is_not_computed(station: Station, topic: str, failing: int) -> None:
    """The part that is not needed would fail."""
    kind = CameraInfo if topic == "camera_info" else Image
    out = station.subscribe(topic, kind)
    station.send(camera_info(WIDTH, HEIGHT), "camera_info")
    station.exchange(message(rgb=frame(failing=failing)), out)


def test_features_are_computed_for_their_subscriber_alone(station: Station) -> None:
    """A failure shows that the part is run when it is wanted."""
    station.subscribe("segmentation/features")
    before = dropped(station, "failed")
    station.send(message(rgb=frame(failing=ADAPTER_FAILS)))
    station.diagnosis(lambda s: int(values_of(s)["dropped_failed"]) > before, "a failed frame")


def dropped(station: Station, cause: str) -> int:
    status = station.diagnosis(lambda s: True, "any")
    return int(values_of(status)[f"dropped_{cause}"])


def test_best_effort_cameras_and_subscribers_are_served(station: Station) -> None:
    out = station.subscribe("image", reliable=False)
    station.camera(reliable=False)
    station.exchange(message(), out)


def test_reliability_follows_the_publishers(station: Station) -> None:
    """Reliable while all offer it, best effort once one does not."""

    def subscribed() -> set[str]:
        infos = station.node.get_subscriptions_info_by_topic(f"{station.namespace}/image")
        return {info.qos_profile.reliability.name for info in infos}

    station.subscribe("image")
    station.camera()
    station.wait(lambda: subscribed() == {"RELIABLE"}, "a reliable subscription")
    other = station.node.create_publisher(Image, "image", best_effort())
    station.wait(lambda: subscribed() == {"BEST_EFFORT"}, "a best-effort subscription")
    station.node.destroy_publisher(other)
    station.wait(lambda: subscribed() == {"RELIABLE"}, "a reliable subscription again")


def best_effort() -> Any:
    return QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


@pytest.mark.ros_smoke
def test_a_publisher_from_which_nothing_arrives_is_noticed(station: Station) -> None:
    station.subscribe("image")
    station.camera()
    status = station.diagnosis(lambda s: "nothing has arrived" in s.message, "a silent publisher")
    assert profile_variable() in status.message and status.level == b"\1"
    out = station.subscribe("image/compressed", CompressedImage)
    station.exchange(message(), out)
    station.diagnosis(lambda s: "nothing has arrived" not in s.message, "all well")


@pytest.fixture
def strict_age(station: Station) -> Iterator[None]:
    """The limit of age as it is by default, for clocks that are a little behind."""
    station.set_parameters(max_age_ms=500)
    yield
    station.set_parameters(max_age_ms=10000)


def test_a_clock_that_is_set_back_is_noticed(station: Station, strict_age: None) -> None:
    """Its frames are too old for half a second, until the clock is known to have jumped."""
    station.exchange(message(), station.subscribe("image"))
    check_other_clock(station, 5, r"camera clock is 5\.\d s behind")


def test_a_clock_that_is_a_second_behind_is_another_clock(
    station: Station, strict_age: None
) -> None:
    check_other_clock(station, 1, r"camera clock is 1\.\d s behind")


@pytest.mark.parametrize(
    ("age_s", "said"), [(12, r"camera clock is 1\d\.\d s behind"), (-3600, r"\d s ahead")]
)
def test_frames_of_another_clock_are_restored_and_their_age_is_unknown(
    station: Station, age_s: int, said: str
) -> None:
    check_other_clock(station, age_s, said)


def check_other_clock(station: Station, age_s: int, said: str) -> None:
    """Send frames stamped ``age_s`` ago until status and diagnostics say so of restored ones."""
    out, status = station.subscribe("image"), station.subscribe("status", DiagnosticArray)

    def restored() -> Any:
        station.send(message(), age_s=age_s)
        station.pause(0.1)
        return next((m for m in status.messages if is_noted(m.status[0])), 0)

    def is_noted(one: DiagnosticStatus) -> bool:
        is_said = re.match(f"age unknown: .*{said}", one.message) is not None
        return values_of(one)["mode"] == "restored" and is_said

    (one,) = station.wait(restored, "a restored frame").status
    assert one.level == DiagnosticStatus.WARN
    assert float(values_of(one)["age_ms"]) < 10000  # since its arrival
    assert out.messages

    def unknown(diagnosis: DiagnosticStatus) -> bool:
        station.send(message(), age_s=age_s)
        return re.search(f"age unknown: .*{said}", diagnosis.message) is not None

    assert station.diagnosis(unknown, "an unknown age").level == DiagnosticStatus.WARN


def test_stamps_that_are_no_age_count_from_arrival(station: Station) -> None:
    """As from a bag that is played without its clock."""
    out = station.subscribe("image")
    camera, old = station.camera(), message()
    old.header.stamp.sec = 1_600_000_000

    def received() -> bool:
        camera.publish(old)
        station.pause(0.1)
        return any(each.header.stamp.sec == old.header.stamp.sec for each in out.messages)

    station.wait(received, "the frame of an old bag")
    assert time.time() > 1_600_000_000 + 10


def test_a_camera_info_that_was_sent_once_before_is_received(station: Station) -> None:
    """Latched: its publisher keeps it for who comes later."""
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = station.node.create_publisher(CameraInfo, "camera_info", latched)
    sent = camera_info(2 * WIDTH, 2 * HEIGHT)
    sent.k[0] = 1234.0
    publisher.publish(sent)
    assert publisher.get_subscription_count() == 0
    infos = station.subscribe("detection/camera_info", CameraInfo)
    station.subscribe("detection/features")

    def latest() -> Any:
        station.send(message())
        station.pause(0.1)
        return next((m for m in infos.messages if m.k[0] == pytest.approx(1234 * W / WIDTH / 2)), 0)

    station.wait(latest, "the CameraInfo of another resolution, scaled to the map")
    station.node.destroy_publisher(publisher)


@pytest.mark.parametrize(
    ("width", "more", "cx"),
    [
        # The sensor has 128x96: the image's 64x48 are a part of it, or all of it binned.
        (2 * WIDTH, {"roi": RegionOfInterest(x_offset=32, y_offset=16, width=64, height=48)}, 32),
        (2 * WIDTH, {"binning_x": 2, "binning_y": 2}, 0),
        (WIDTH, {"distortion_model": "equidistant", "d": [0.1, 0.2, 0.3, 0.4, 0.5]}, 0),
    ],
    ids=["region", "binning", "equidistant"],
)
def test_a_camera_info_with_more_than_a_pinhole(
    station: Station, width: int, more: dict[str, Any], cx: int
) -> None:
    """``cx``: where the region begins."""
    sent = camera_info(width, width * HEIGHT // WIDTH)
    for name, value in more.items():
        setattr(sent, name, value)
    # As many pixels of the sensor as one of the map covers.
    pitch = (sent.roi.width or width) / W
    sent.k[0] = fx = float(np.random.default_rng().uniform(100, 1000))
    info = info_of_the_map(station, sent, fx / pitch)
    assert info.k[2] == pytest.approx((sent.k[2] - cx + 0.5) / pitch - 0.5)
    assert (info.width, info.height) == (W, H)
    assert info.distortion_model == sent.distortion_model and list(info.d) == list(sent.d)
    assert info.roi == RegionOfInterest() and info.binning_x == 0


def test_a_camera_info_of_an_uncalibrated_camera(station: Station) -> None:
    sent = CameraInfo(width=WIDTH, height=HEIGHT)
    info = info_of_the_map(station, sent, 0.0)
    assert not info.k.any() and not info.p.any() and (info.width, info.height) == (W, H)


def info_of_the_map(station: Station, sent: CameraInfo, fx: float) -> CameraInfo:
    """Send a CameraInfo, and frames until that of the feature map has this focal length."""
    infos = station.subscribe("detection/camera_info", CameraInfo)
    station.subscribe("detection/features")

    def latest() -> Any:
        station.send(sent, "camera_info")
        station.send(message())
        station.pause(0.1)
        return next((m for m in infos.messages if m.k[0] == pytest.approx(fx)), 0)

    return station.wait(latest, "the CameraInfo, scaled to the map")


def test_a_camera_info_of_other_images_is_not_published_for_the_map(station: Station) -> None:
    infos = station.subscribe("detection/camera_info", CameraInfo)
    features = station.subscribe("detection/features")
    other = camera_info(WIDTH, 2 * HEIGHT)
    station.send(other, "camera_info")

    def said() -> bool:
        station.send(other, "camera_info")
        station.exchange(message(), features)
        status = station.diagnosis(lambda s: True, "any")
        return "does not fit images of" in values_of(status)["last_error"]

    station.wait(said, "what is wrong with the CameraInfo")
    infos.messages.clear()
    station.exchange(message(), features)
    assert infos.messages == []
    station.send(camera_info(WIDTH, HEIGHT), "camera_info")
