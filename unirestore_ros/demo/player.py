"""The camera of the demo: a process that publishes a spool's frames when they are due.

    python -m unirestore_ros.demo.player SPOOL JOURNAL --features TASK ...

It waits until node and recorder have found each other and the node restores: until then it repeats
the first frame, as a camera that runs before the car drives off. From how long the node takes it
sees what rate this machine can hold, and plays no faster. It notes each frame's stamp in the
journal as it is published, and leaves when the last one has been acknowledged.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image

from unirestore_ros.demo import names
from unirestore_ros.demo.journal import JournalWriter
from unirestore_ros.demo.ros_process import CAMERA_QOS, ros_node
from unirestore_ros.demo.spool import Spool
from unirestore_ros.msgs.encodings import image_message
from unirestore_ros.msgs.rates import mean_rate

FRAME_ID = "demo_camera_optical_frame"
_LOOK_EVERY_S = 0.05
# Each side of a pair learns of the other by itself: a moment for the slower one.
_SETTLE_S = 0.5
_ACKNOWLEDGE_LIMIT_S = 5.0
_WARM_UP_FRAMES = 4
_WARM_UP_PERIOD_S = 0.25
_WARM_UP_LIMIT_S = 15.0
# A frame is due this many times as late as the node takes for one, at least.
_HEADROOM = 1.25
# A node that is slower still skips frames, so that the play comes to an end.
_MOST_SLOWING = 4.0

_log = logging.getLogger(__name__)


class Camera:
    """Publishes image and camera_info, and knows who is there to hear them."""

    def __init__(self, node: Node, spool: Spool, tasks: Sequence[str]) -> None:
        self._node = node
        self._spool = spool
        self._outputs = (
            names.IMAGE,
            names.STATUS,
            *(names.features_topic(task) for task in tasks),
        )
        self._image: Publisher = node.create_publisher(Image, names.CAMERA, CAMERA_QOS)
        self._info: Publisher = node.create_publisher(CameraInfo, names.CAMERA_INFO, CAMERA_QOS)
        node.create_subscription(DiagnosticArray, names.STATUS, self._on_status, 1)
        self.latencies_s: list[float] = []

    def _on_status(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            if values.get("mode") == names.RESTORED_MODE:
                self.latencies_s.append(float(values["latency_ms"]) / 1e3)

    def rival(self) -> bool:
        """Whether somebody else publishes on the demo's camera topic."""
        return self._node.count_publishers(names.CAMERA) > 1

    def missing(self) -> list[str]:
        """What has not been discovered yet, in words."""
        missing = []
        if self._image.get_subscription_count() == 0:
            missing.append(f"the node's subscription of {names.CAMERA}")
        for topic in self._outputs:
            if self._node.count_publishers(topic) == 0:
                missing.append(f"the node's publisher of {topic}")
            if self._node.count_subscribers(topic) == 0:
                missing.append(f"the recorder's subscription of {topic}")
        return missing

    def publish(self, index: int) -> int:
        """Publish a frame, stamped now by the system clock; returns the stamp in nanoseconds."""
        frame = self._spool.camera(index)
        stamp = time.time_ns()
        image = image_message(frame, "bgr8")
        image.header.stamp = Time(nanoseconds=stamp).to_msg()
        image.header.frame_id = FRAME_ID
        # The zeros that are left in it say that the camera is not calibrated.
        info = CameraInfo(header=image.header, height=frame.shape[0], width=frame.shape[1])
        self._info.publish(info)
        self._image.publish(image)
        return stamp

    def listen(self, seconds: float) -> None:
        """Take in what the node says of its frames."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            rclpy.spin_once(self._node, timeout_sec=left)

    def wait_for_acknowledgement(self) -> None:
        self._image.wait_for_all_acked(Duration(seconds=_ACKNOWLEDGE_LIMIT_S))


def play(
    camera: Camera,
    offsets_ns: Sequence[int],
    journal: JournalWriter,
    stopped: Callable[[], bool],
) -> None:
    """Publish every frame when it is due; where one is late, all that follow are as late."""
    start = time.monotonic_ns()
    for index, offset in enumerate(offsets_ns):
        start = max(start, time.monotonic_ns() - offset)
        while not stopped() and (left := start + offset - time.monotonic_ns()) > 0:
            time.sleep(min(left / 1e9, _LOOK_EVERY_S))
        if stopped():
            return
        journal.add(index=index, stamp=camera.publish(index))
    camera.wait_for_acknowledgement()


def slowing(offsets_ns: Sequence[int], latencies_s: Sequence[float]) -> float:
    """How many times slower the node needs the frames: 1 where it holds their rate, 4 at most.

    The first latency is not asked: with the first frame the network's memory is set up.
    """
    rate = mean_rate(offsets_ns)
    if rate is None or len(latencies_s) < 2:
        return 1.0
    needed = statistics.median(latencies_s[1:]) * _HEADROOM * rate
    return min(max(1.0, needed), _MOST_SLOWING)


def wait_for_partners(camera: Camera, stopped: Callable[[], bool]) -> bool:
    """Wait until all have discovered each other; False, with the reason logged, where not."""
    deadline = time.monotonic() + names.DISCOVERY_LIMIT_S
    while (missing := camera.missing()) and not stopped():
        if time.monotonic() > deadline:
            _log.error("not there after %g s: %s", names.DISCOVERY_LIMIT_S, "; ".join(missing))
            return False
        time.sleep(_LOOK_EVERY_S)
    if camera.rival():
        _log.error(
            "somebody else publishes on %s: another demo runs in this ROS domain;"
            " wait for its end, or set ROS_DOMAIN_ID to another number",
            names.CAMERA,
        )
        return False
    time.sleep(_SETTLE_S)
    return True


def warm_up(camera: Camera, stopped: Callable[[], bool]) -> None:
    """Show the first frame until the node has restored it a few times."""
    deadline = time.monotonic() + _WARM_UP_LIMIT_S
    while len(camera.latencies_s) < _WARM_UP_FRAMES and not stopped():
        if time.monotonic() > deadline:
            _log.warning("little was restored in %g s; playing all the same", _WARM_UP_LIMIT_S)
            return
        camera.publish(0)
        camera.listen(_WARM_UP_PERIOD_S)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spool", type=Path)
    parser.add_argument("journal", type=Path)
    parser.add_argument("--features", nargs="*", default=[], metavar="TASK")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    spool = Spool(arguments.spool)
    with ros_node("camera") as (node, stopped), JournalWriter(arguments.journal) as journal:
        camera = Camera(node, spool, arguments.features)
        if not wait_for_partners(camera, stopped):
            return 1
        warm_up(camera, stopped)
        offsets = [entry.offset_ns for entry in spool.entries]
        factor = slowing(offsets, camera.latencies_s)
        journal.add(slowing=factor)
        play(camera, [round(offset * factor) for offset in offsets], journal, stopped)
    return 0


if __name__ == "__main__":
    sys.exit(main())
