"""The other side of the node: a camera that publishes to it, and subscribers of its topics."""

from __future__ import annotations

import array
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import ChangeState, GetState
from numpy.typing import NDArray
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import SetBool, Trigger

LIMIT_S = 90.0  # for a machine that does much else besides
ANSWER_LIMIT_S = 15.0
T = TypeVar("T")


class Timeout(AssertionError):
    """The condition that a test waits for was not met in time."""


@dataclass
class Inbox:
    """The messages that have come on a topic."""

    messages: list[Any] = field(default_factory=list)

    def stamps(self) -> list[int]:
        return [stamp_of(message) for message in self.messages]

    def of(self, stamp: int) -> Any:
        """The message of that stamp; None before it came."""
        return next((message for message in self.messages if stamp_of(message) == stamp), None)


class Station:
    """A camera on ``namespace``/image and subscribers of the node ``namespace``/unirestore."""

    def __init__(self, context: Context, namespace: str) -> None:
        self.namespace = namespace
        self.node = Node("station", namespace=namespace, context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._inboxes: dict[str, tuple[Inbox, Any]] = {}
        self._cameras: dict[str, Publisher] = {}

    def reset(self) -> None:
        """Leave the graph, so that the next test begins anew; the node of the station stays."""
        self.unsubscribe()
        for topic in tuple(self._cameras):
            self.drop_camera(topic)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()

    def name(self, topic: str) -> str:
        """The node's own topic of that name."""
        return f"{self.namespace}/unirestore/{topic}"

    def wait(self, condition: Callable[[], T], what: str, limit_s: float = LIMIT_S) -> T:
        """Spin until ``condition`` is true; returns what it returned."""
        end = time.monotonic() + limit_s
        while not (result := condition()):
            if time.monotonic() > end:
                raise Timeout(f"waited {limit_s} s for {what}")
            self._executor.spin_once(timeout_sec=0.02)
        return result

    def pause(self, seconds: float) -> None:
        """Let a time pass that means something to the node, and receive what comes meanwhile."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=min(0.02, max(0.0, end - time.monotonic())))

    def subscribe(self, topic: str, kind: type = Image, reliable: bool = True) -> Inbox:
        """Subscribe one of the node's topics, and wait until the node knows."""
        inbox = Inbox()
        policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        name = topic if topic.startswith("/") else self.name(topic)
        subscription = self.node.create_subscription(
            kind, name, inbox.messages.append, QoSProfile(depth=50, reliability=policy)
        )
        self._inboxes[topic] = (inbox, subscription)
        self.wait(subscription.get_publisher_count, f"a publisher of {name}")
        return inbox

    def unsubscribe(self, *topics: str) -> None:
        """Subscribe no longer; all topics where none is named."""
        for topic in topics or tuple(self._inboxes):
            _, subscription = self._inboxes.pop(topic)
            self.node.destroy_subscription(subscription)

    def camera(
        self, kind: type = Image, topic: str = "image", reliable: bool = True, subscribers: int = 1
    ) -> Publisher:
        """The publisher of an input topic; waits until that many subscribe it."""
        if topic not in self._cameras:
            policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
            self._cameras[topic] = self.node.create_publisher(
                kind, f"{self.namespace}/{topic}", QoSProfile(depth=1, reliability=policy)
            )
        publisher = self._cameras[topic]
        self.wait(
            lambda: publisher.get_subscription_count() == subscribers,
            f"{subscribers} subscribers of {topic}",
        )
        return publisher

    def drop_camera(self, topic: str = "image") -> None:
        self.node.destroy_publisher(self._cameras.pop(topic))

    def send(self, message: Any, topic: str = "image", age_s: int = 0) -> int:
        """Publish to the node, stamped ``age_s`` ago; returns the stamp in nanoseconds."""
        stamp = time.time_ns() - age_s * 10**9
        message.header.stamp = Time(sec=stamp // 10**9, nanosec=stamp % 10**9)
        message.header.frame_id = "camera_optical"
        self.camera(type(message), topic).publish(message)
        return stamp

    def exchange(self, message: Any, inbox: Inbox, *others: Inbox, topic: str = "image") -> Any:
        """Send a frame until its answer has come, and return it. The first may be sent before the
        node knows every subscriber, or before it has received the CameraInfo, so that frames are
        sent until one has its answer in ``others`` too."""
        stamps: list[int] = []

        def answer() -> Any:
            if not stamps or time.time_ns() - stamps[-1] > 3 * 10**8:
                stamps.append(self.send(message, topic))
            complete = [s for s in stamps if all(one.of(s) is not None for one in others)]
            return next((found for s in complete if (found := inbox.of(s)) is not None), None)

        return self.wait(answer, "the frame that was sent")

    def restore_first(self, message: Any, topic: str = "image") -> None:
        """Send a frame until it comes back restored: until then, after its engine was opened or
        pinned to another size, the node shows the camera's. No answer is under way afterwards."""
        image, status = self.subscribe("image"), self.subscribe("status", DiagnosticArray)
        stamp, sent, every_s = 0, 0.0, 0.1

        def is_restored() -> bool:
            nonlocal stamp, sent, every_s
            report = status.of(stamp)
            mode = None if report is None else values_of(report.status[0])["mode"]
            if mode == "restored" and image.of(stamp) is not None:
                return True
            if time.monotonic() - sent > every_s:
                # Less and less often: in the end each is answered before the next is sent.
                stamp, sent, every_s = self.send(message, topic), time.monotonic(), 1.1 * every_s
            return False

        self.wait(is_restored, "the first frame that is restored")
        self.unsubscribe("image", "status")
        self.drop_camera(topic)

    def call(self, kind: type, service: str, request: Any) -> Any:
        """The service's answer. It is asked again where none comes: a server that has not yet
        discovered the client's reader drops its answer."""
        end = time.monotonic() + LIMIT_S
        while (answer := self._ask(kind, service, request)) is None:
            if time.monotonic() > end:
                raise Timeout(f"waited {LIMIT_S} s for an answer of {service}")
        return answer

    def _ask(self, kind: type, service: str, request: Any) -> Any:
        """One request; None where no answer comes."""
        client: Any = self.node.create_client(kind, self.name(service))
        self.wait(client.service_is_ready, f"the service {service}")
        future = client.call_async(request)
        end = time.monotonic() + ANSWER_LIMIT_S
        self.wait(lambda: future.done() or time.monotonic() > end, f"an answer of {service}")
        self.node.destroy_client(client)
        return future.result() if future.done() else None

    def set_enabled(self, enabled: bool) -> SetBool.Response:
        return self.call(SetBool, "set_enabled", SetBool.Request(data=enabled))

    def reload(self) -> Trigger.Response:
        return self.call(Trigger, "reload", Trigger.Request())

    def set_parameters(self, **values: Any) -> list[Any]:
        """Results, in their order."""
        wanted = [Parameter(k, value=v).to_parameter_msg() for k, v in values.items()]
        request = SetParameters.Request(parameters=wanted)
        return list(self.call(SetParameters, "set_parameters", request).results)

    def change_state(self, transition: int) -> bool:
        """Whether it succeeded. Not asked twice, for it succeeds only once: where the answer is
        lost, the state tells."""
        request = ChangeState.Request()
        request.transition.id = transition
        before = self.state()
        answer = self._ask(ChangeState, "change_state", request)
        return self.state() != before if answer is None else bool(answer.success)

    def state(self) -> str:
        return str(self.call(GetState, "get_state", GetState.Request()).current_state.label)

    def diagnosis(
        self, condition: Callable[[DiagnosticStatus], bool], what: str
    ) -> DiagnosticStatus:
        """The node's first diagnostics from now on that meet the condition."""
        if "/diagnostics" not in self._inboxes:
            self.subscribe("/diagnostics", DiagnosticArray)
        inbox, _ = self._inboxes["/diagnostics"]
        inbox.messages.clear()
        mine = f"{self.namespace}/unirestore"

        def found() -> DiagnosticStatus | None:
            return next(
                (
                    s
                    for array in inbox.messages
                    for s in array.status
                    if s.name == mine and condition(s)
                ),
                None,
            )

        return self.wait(found, f"diagnostics: {what}")


def stamp_of(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec * 10**9 + stamp.nanosec)


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def image(pixels: NDArray[np.uint8], encoding: str, padding: int = 0) -> Image:
    """A message made by hand: pixels (H,W) or (H,W,c), each row followed by ``padding`` bytes."""
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xA5)
    return Image(
        height=height,
        width=width,
        encoding=encoding,
        step=padded.shape[1],
        data=array.array("B", padded.tobytes()),
    )


def camera_info(width: int, height: int, **more: Any) -> CameraInfo:
    return CameraInfo(
        width=width,
        height=height,
        distortion_model="plumb_bob",
        d=[0.1, -0.2, 0.001, 0.002, 0.0],
        k=[50.0, 0.0, 31.5, 0.0, 52.0, 23.5, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[48.0, 0.0, 31.0, -4.8, 0.0, 49.0, 23.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        **more,
    )
