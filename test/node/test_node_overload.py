"""More than the node can do: the newest frame wins, old ones are dropped, and a subscriber that is
stopped slows nobody."""

from __future__ import annotations

import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from ros_miniature import expected_image, frame
from ros_station import Inbox, Station, image, values_of
from sensor_msgs.msg import Image

pytestmark = pytest.mark.dds

SLOW = frame(work=120)
FAST = frame(seed=1)


def bgr(rgb: np.ndarray, padding: int = 0) -> Image:
    return image(rgb[..., ::-1], "bgr8", padding)


@pytest.fixture
def out(station: Station) -> Inbox:
    inbox = station.subscribe("image")
    station.exchange(bgr(FAST), inbox)
    inbox.messages.clear()
    return inbox


def feed(station: Station, count: int, rate_hz: float, rgb: np.ndarray = SLOW) -> list[int]:
    sent = []
    for _ in range(count):
        sent.append(station.send(bgr(rgb)))
        station.pause(1 / rate_hz)
    return sent


def test_newest_wins(station: Station, out: Inbox) -> None:
    """Faster than the node: what comes out is in order, each once, and the last frame comes."""
    before = dropped(station, "replaced")
    sent = feed(station, 60, rate_hz=100)
    station.wait(lambda: out.of(sent[-1]), "the newest frame")
    stamps = out.stamps()
    assert stamps == sorted(set(stamps)) and set(stamps) <= set(sent)
    assert len(stamps) < len(sent)
    assert dropped(station, "replaced") > before


def dropped(station: Station, cause: str) -> int:
    return int(values_of(station.diagnosis(lambda s: True, "any"))[f"dropped_{cause}"])


def test_a_frame_that_is_too_old_is_dropped_and_counted(station: Station, out: Inbox) -> None:
    station.set_parameters(max_age_ms=1000)
    before = dropped(station, "too_old")

    old: list[int] = []

    def counted() -> bool:
        old.append(station.send(bgr(FAST), age_s=5))
        return dropped(station, "too_old") > before

    station.wait(counted, "a frame too old")
    assert not {*old} & {*out.stamps()}
    station.set_parameters(max_age_ms=10000)
    station.exchange(bgr(FAST), out)


SUBSCRIBER = """
import sys, rclpy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("subscriber", namespace=sys.argv[1])
topic = "unirestore/segmentation/features"
node.create_subscription(Image, topic, lambda message: print("received", flush=True), 1)
rclpy.spin(node)
"""


@pytest.fixture
def subscriber(station: Station) -> Iterator[subprocess.Popen[str]]:
    """A reliable subscriber of features in a process of its own, which has received some."""
    command = [sys.executable, "-c", SUBSCRIBER, station.namespace]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            output = select.poll()
            output.register(process.stdout, select.POLLIN)

            def has_received() -> bool:
                station.send(bgr(FAST))
                station.pause(0.05)
                return bool(output.poll(0))

            station.wait(has_received, "features in the other process")
            yield process
        finally:
            process.kill()


def median_exchange(station: Station, out: Inbox, seconds: float) -> float:
    """How long a frame takes to come back, in seconds."""
    took = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        station.exchange(bgr(FAST), out)
        out.messages.clear()
        took.append(time.monotonic() - begun)
    return statistics.median(took)


def test_a_stopped_reliable_subscriber_does_not_slow_the_picture(
    station: Station, out: Inbox, subscriber: subprocess.Popen[str]
) -> None:
    """Compared with itself on the same machine: a writer that waits for who is stopped takes DDS's
    100 ms for each message. For longer than the second after which shared memory would notice."""
    before = median_exchange(station, out, seconds=1.5)
    subscriber.send_signal(signal.SIGSTOP)
    assert median_exchange(station, out, seconds=4.0) < 2 * before + 0.05


def test_the_restored_picture_was_right_all_along(station: Station, out: Inbox) -> None:
    answer = station.exchange(bgr(FAST), out)
    pixels = np.frombuffer(answer.data, np.uint8).reshape(FAST.shape)
    np.testing.assert_array_equal(pixels[..., ::-1], expected_image(FAST))


def test_what_to_do_is_said_where_only_the_cameras_image_is_shown(
    station: Station, out: Inbox
) -> None:
    """Each frame takes longer than fallback_after_ms, so that restored mode never comes back."""
    station.set_parameters(fallback_after_ms=60)
    slow = bgr(frame(work=250))  # takes 130 ms where a core is free

    def is_advised(status: DiagnosticStatus) -> bool:
        return "camera mode: no output" in status.message and "set_enabled" in status.message

    sending = station.node.create_timer(0.05, lambda: station.send(slow))
    status = station.diagnosis(is_advised, "camera mode and what to do")
    station.node.destroy_timer(sending)
    assert status.level == DiagnosticStatus.WARN
    assert "frames/s are restored" in status.message
