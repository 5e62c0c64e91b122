"""The other side of the node in a soak: a camera that can misbehave, and a watch over every image.

The watch knows each frame that was sent, so it can tell whether an image on ``~/image`` is the
camera's own, byte for byte, or restored; whether it belongs to the frame whose stamp it carries;
and whether ``~/status`` says of it what it is.
"""

from __future__ import annotations

import array
import collections
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image

from unirestore_ros.display.canvas import COLOURS, place, stage_height
from unirestore_ros.display.selection import FrameStatus
from unirestore_ros.synthetic.drive import demo_frames

Size = tuple[int, int]
DISPLAY_SIZE: Size = (480, 270)
SCENES = 6
DAMAGED = -1
_THUMBNAIL = (40, 30)
# A restored image may resemble another scene a little more than its own by chance, not by more.
_CERTAINLY = 0.1
_KEPT_FRAMES = 2000
_SHOWS_A_FRAME = (FrameStatus.RESTORED, FrameStatus.CAMERA, FrameStatus.UNCONFIRMED)
_RESTART = "it is started again in"


@dataclasses.dataclass
class CameraSettings:
    """How the camera behaves; changed by the faults, read for each frame."""

    is_sending: bool = True
    is_frozen: bool = False
    clock_offset_s: float = 0.0
    stamps_are_zero: bool = False
    sizes: tuple[Size, ...] = ((480, 360),)
    """Width and height of the next frames, which take turns."""
    damage: Callable[[Image], None] | None = None
    """Applied to every other message."""


@dataclasses.dataclass(frozen=True)
class Arrival:
    """An image that came on ``~/image``."""

    at: float
    """Seconds of the steady clock."""
    stamp_ns: int
    kind: str
    """``camera``, ``restored``, or ``wrong``: not of the frame with that stamp."""
    age_ms: float


class Camera:
    """Publishes scenes that differ, bgr8, and a CameraInfo beside each."""

    def __init__(self, node: Node, rate_hz: float) -> None:
        self.settings = CameraSettings()
        self.sent_at: list[float] = []
        """When each frame was sent, in seconds of the steady clock."""
        self.frames: dict[int, tuple[Size, int]] = {}
        """Size and scene of the last frames, by stamp in nanoseconds; DAMAGED for the scene of a
        message that was damaged."""
        # Every other one mirrored, so that neighbours of one drive are not alike.
        self._scenes = [
            np.ascontiguousarray(frame.degraded[:, :: 1 - 2 * (i % 2), ::-1])
            for i, frame in enumerate(demo_frames(SCENES))
        ]
        self._messages: dict[tuple[Size, int], Image] = {}
        self.thumbnails = np.stack([thumbnail(scene) for scene in self._scenes])
        """(SCENES, n): for each scene, what ``thumbnail`` makes of it."""
        self._image = node.create_publisher(Image, "image", 1)
        self._info = node.create_publisher(CameraInfo, "camera_info", 1)
        node.create_timer(1 / rate_hz, self._publish)

    @property
    def sent(self) -> int:
        return len(self.sent_at)

    def message(self, size: Size, scene: int) -> Image:
        """A scene as a message of that size, (width, height), made once."""
        if (size, scene) not in self._messages:
            pixels = cv2.resize(self._scenes[scene], size, interpolation=cv2.INTER_AREA)
            pixels[:16, :16] = 0  # this corner steers the bundle of the tests
            self._messages[size, scene] = Image(
                width=size[0],
                height=size[1],
                encoding="bgr8",
                step=3 * size[0],
                data=array.array("B", pixels.tobytes()),
            )
        return self._messages[size, scene]

    def _publish(self) -> None:
        settings = self.settings
        if not settings.is_sending:
            return
        self.sent_at.append(time.monotonic())
        size = settings.sizes[self.sent % len(settings.sizes)]
        scene = 0 if settings.is_frozen else self.sent % SCENES
        message = self.message(size, scene)
        now = 0 if settings.stamps_are_zero else time.time_ns()
        now += int(settings.clock_offset_s * 1e9)
        message.header.stamp = Time(sec=now // 10**9, nanosec=now % 10**9)
        message.header.frame_id = "camera_optical"
        is_damaged = settings.damage is not None and self.sent % 2
        self.frames[now] = size, DAMAGED if is_damaged else scene
        if len(self.frames) > _KEPT_FRAMES:
            del self.frames[next(iter(self.frames))]
        if settings.damage is not None and is_damaged:
            damaged = Image(header=message.header, encoding="bgr8", data=message.data)
            damaged.width, damaged.height, damaged.step = *size, 3 * size[0]
            settings.damage(damaged)
            self._image.publish(damaged)
            return
        width, height = size
        info = CameraInfo(header=message.header, width=width, height=height, k=[100.0] * 9)
        self._info.publish(info)
        self._image.publish(message)


class Watch:
    """Receives the node's image, status and diagnostics, and the display's."""

    def __init__(self, node: Node, camera: Camera, restorer: str, display: str) -> None:
        self.arrivals: list[Arrival] = []
        self.problems: list[str] = []
        """Images that were wrong, or under the wrong sign."""
        self.diagnostics: dict[str, DiagnosticStatus] = {}
        """The latest of each node, by its name."""
        self.losses: list[float] = []
        """When the node said, as an ERROR with the cause, that it starts its engine again, in
        seconds of the steady clock."""
        self.drops: collections.Counter[str] = collections.Counter()
        """Frames that the node dropped, by cause, over all of its lives."""
        self.is_mixed = False
        """Whether two nodes publish under one name, so that nothing can be said of one of them."""
        self._last_drops: dict[str, int] = {}
        self._camera = camera
        self._restorer = restorer
        self._kinds: dict[int, str] = {}
        self._modes: dict[int, str] = {}
        self._sent: dict[int, str] = {}
        self._signed_restored: set[int] = set()
        self.displayed = 0
        """Images of the display that were judged."""
        qos = QoSProfile(depth=5)
        node.create_subscription(Image, f"{restorer}/image", self._on_image, qos)
        node.create_subscription(DiagnosticArray, f"{restorer}/status", self._on_status, qos)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        node.create_subscription(Image, f"{display}/image", self._on_display, qos)

    def wait_for(
        self, name: str, is_wanted: Callable[[DiagnosticStatus], bool], limit_s: float
    ) -> DiagnosticStatus | None:
        """Wait until what a node says of itself from now on is wanted; returns what it said last,
        wanted or not, None where that was nothing."""
        self.diagnostics.pop(name, None)
        end = time.monotonic() + limit_s
        while True:
            status = self.diagnostics.get(name)
            if time.monotonic() >= end or (status is not None and is_wanted(status)):
                return status
            time.sleep(0.05)

    def _on_image(self, message: Image) -> None:
        at, stamp_ns = time.monotonic(), _stamp_ns(message)
        kind = self._kind(message, stamp_ns)
        self.arrivals.append(Arrival(at, stamp_ns, kind, (time.time_ns() - stamp_ns) * 1e-6))
        if self.is_mixed:
            return
        if kind == "wrong":
            self.problems.append(f"an image that is not of the frame stamped {stamp_ns}")
        if stamp_ns == 0:
            return  # nothing then tells one frame from another
        self._kinds[stamp_ns] = self._sent[stamp_ns] = kind
        if len(self._sent) > _KEPT_FRAMES:
            del self._sent[next(iter(self._sent))]
        self._compare(stamp_ns)
        self._compare_display(stamp_ns)

    def _on_display(self, message: Image) -> None:
        """Judge what the driver sees: the scene of the frame whose stamp it carries, and signed as
        restored only where that frame was."""
        stamp_ns = _stamp_ns(message)
        size, scene = self._camera.frames.get(stamp_ns, ((0, 0), DAMAGED))
        if self.is_mixed or stamp_ns == 0 or scene == DAMAGED:
            return
        shown = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        status, picture = read_display(shown, size)
        if status not in _SHOWS_A_FRAME:
            return
        self.displayed += 1
        likeness = np.abs(self._camera.thumbnails @ thumbnail(picture))
        if likeness.max() - likeness[scene] >= _CERTAINLY:
            self.problems.append(f"the display shows another frame than that stamped {stamp_ns}")
        if status is FrameStatus.RESTORED:
            self._signed_restored.add(stamp_ns)
            self._compare_display(stamp_ns)

    def _compare_display(self, stamp_ns: int) -> None:
        if stamp_ns in self._signed_restored and stamp_ns in self._sent:
            self._signed_restored.discard(stamp_ns)
            if self._sent[stamp_ns] == "camera":
                self.problems.append(f"the display signs a camera image restored: {stamp_ns}")

    def _kind(self, message: Image, stamp_ns: int) -> str:
        sent = self._camera.frames.get(stamp_ns)
        if sent is None:
            return "wrong"
        size, scene = sent
        # What is damaged is relayed as it is where it can be, and where all stamps are zero nothing
        # tells one frame from another.
        if scene == DAMAGED or stamp_ns == 0:
            return "camera"
        if message.data == self._camera.message(size, scene).data:
            return "camera"
        if (message.width, message.height) != size:
            return "wrong"
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        likeness = np.abs(self._camera.thumbnails @ thumbnail(pixels))
        return "restored" if likeness.max() - likeness[scene] < _CERTAINLY else "wrong"

    def _on_status(self, message: DiagnosticArray) -> None:
        stamp_ns = _stamp_ns(message)
        values = {pair.key: pair.value for pair in message.status[0].values}
        self.diagnostics[f"{self._restorer}/status"] = message.status[0]
        if not self.is_mixed and stamp_ns != 0:
            self._modes[stamp_ns] = values["mode"]
            self._compare(stamp_ns)

    def _compare(self, stamp_ns: int) -> None:
        """Compare what came with what was said of it, once both are there."""
        if stamp_ns in self._kinds and stamp_ns in self._modes:
            kind, mode = self._kinds.pop(stamp_ns), self._modes.pop(stamp_ns)
            if kind != "wrong" and kind != mode:
                self.problems.append(f"a {kind} image signed {mode}, stamped {stamp_ns}")
        for unmatched in (self._kinds, self._modes):
            if len(unmatched) > _KEPT_FRAMES:
                del unmatched[next(iter(unmatched))]

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics[status.name] = status
            if status.name == self._restorer:
                if status.level == DiagnosticStatus.ERROR and _RESTART in status.message:
                    self.losses.append(time.monotonic())
                self._count_drops({pair.key: pair.value for pair in status.values})

    def _count_drops(self, values: dict[str, str]) -> None:
        """Add what has been dropped since the last report; counters begin anew with the node."""
        now = {key: int(text) for key, text in values.items() if key.startswith("dropped_")}
        for key, count in now.items():
            before = self._last_drops.get(key, 0)
            self.drops[key.removeprefix("dropped_")] += count - before if count >= before else count
        self._last_drops = now


class Station:
    """Camera, watch and clients of the node's services, spun in a thread of their own."""

    def __init__(self, namespace: str, rate_hz: float) -> None:
        self.restorer, self.display = f"{namespace}/unirestore", f"{namespace}/driver_display"
        self.node = Node("soak", namespace=namespace)
        self.camera = Camera(self.node, rate_hz)
        self.watch = Watch(self.node, self.camera, self.restorer, self.display)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._is_ending = False
        self._thread = threading.Thread(target=self._spin, name="soak station")
        self._thread.start()

    def _spin(self) -> None:
        while not self._is_ending:
            self._executor.spin_once(timeout_sec=0.2)

    def call(self, kind: type, service: str, request: Any, limit_s: float) -> Any:
        """Call a service of the node; None where no answer comes in time."""
        client: Any = self.node.create_client(kind, f"{self.restorer}/{service}")
        try:
            if not client.wait_for_service(limit_s):
                return None
            answered = threading.Event()
            future = client.call_async(request)
            future.add_done_callback(lambda _: answered.set())
            return future.result() if answered.wait(limit_s) else None
        finally:
            # In the thread that spins: destroying it beside a wait on it is not safe.
            self._executor.create_task(self.node.destroy_client, client)

    def close(self) -> None:
        self._is_ending = True
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()


@contextlib.contextmanager
def station(namespace: str, rate_hz: float) -> Iterator[Station]:
    """A station from the start of ROS in this process to its end."""
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        with contextlib.closing(Station(namespace, rate_hz)) as made:
            yield made
    finally:
        rclpy.shutdown()


def read_display(
    shown: NDArray[np.uint8], size: Size
) -> tuple[FrameStatus | None, NDArray[np.uint8]]:
    """Read an image of the display, (H,W,3) uint8 BGR, as `display/canvas.py` composes it: what its
    strip says, by its colour, and the part in which a frame of that size, (width, height), lies."""
    height, width = shown.shape[:2]
    colour = tuple(shown[-4, 4].tolist())
    status = next((status for status in FrameStatus if COLOURS[status] == colour), None)
    left, top, across, down, _ = place(size, (width, stage_height(height)))
    return status, shown[top : top + down, left : left + across]


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Reduce an image (H,W,3) to a vector (n,) of length 1, whose product with another image's is
    their correlation: light and contrast of the whole do not matter."""
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
    flat = (small - cv2.GaussianBlur(small, (0, 0), 6)).reshape(-1)
    length = np.linalg.norm(flat)
    return np.asarray(flat / max(float(length), 1e-6), np.float32)


def _stamp_ns(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec * 10**9 + stamp.nanosec)
