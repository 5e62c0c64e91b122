"""The camera's topics: subscribed while somebody listens to the node, as they are offered."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from unirestore_ros.node.parameters import Parameters

_SILENT_AFTER_S = 3.0


class TopicInput:
    """One subscription of depth 1, there while somebody wants it and somebody publishes."""

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        callback: Callable[..., None],
        reliability: str,
        raw: bool = True,
    ) -> None:
        """``raw``: the callback takes the message's bytes as they came."""
        self.topic = topic
        self._raw = raw
        self._node = node
        self._kind = kind
        self._callback = callback
        self._setting = reliability
        self._subscription: Subscription | None = None
        self._reliability: ReliabilityPolicy | None = None

    @property
    def is_open(self) -> bool:
        return self._subscription is not None

    def update(self, wanted: bool) -> None:
        """Look at the graph, and subscribe, subscribe otherwise, or let go."""
        reliability = self._offered() if wanted else None
        if reliability is not self._reliability:
            self.close()
            if reliability is not None:
                self._open(reliability)

    def close(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = self._reliability = None

    def _open(self, reliability: ReliabilityPolicy) -> None:
        self._reliability = reliability
        self._subscription = self._node.create_subscription(
            self._kind,
            self.topic,
            self._callback,
            QoSProfile(depth=1, reliability=reliability),
            raw=self._raw,
        )

    def _offered(self) -> ReliabilityPolicy | None:
        """Reliable if every publisher offers it; None where there is no publisher: to subscribe
        before it is known how, and then again, would lose the first frames."""
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        if not publishers:
            return None
        if self._setting != "auto":
            return ReliabilityPolicy[self._setting.upper()]
        offered = {publisher.qos_profile.reliability for publisher in publishers}
        only_reliable = offered == {ReliabilityPolicy.RELIABLE}
        return ReliabilityPolicy.RELIABLE if only_reliable else ReliabilityPolicy.BEST_EFFORT


class CameraInput:
    """The image, raw or compressed and in any case serialised, and its CameraInfo."""

    def __init__(
        self,
        node: Node,
        parameters: Parameters,
        on_image: Callable[[bytes], None],
        on_info: Callable[[CameraInfo], None],
    ) -> None:
        # Of the name that `image` resolves to, as image_transport does.
        image = node.resolve_topic_name("image")
        compressed = parameters.input_transport == "compressed"
        kind, topic = (CompressedImage, f"{image}/compressed") if compressed else (Image, image)
        reliability = parameters.input_reliability
        self._on_image = on_image
        self._image = TopicInput(node, kind, topic, self._hear_image, reliability)
        self._info = TopicInput(node, CameraInfo, "camera_info", on_info, reliability, raw=False)
        self._wanted = False
        self._quiet_since = time.monotonic()

    @property
    def topic(self) -> str:
        """The image's."""
        return self._image.topic

    def update(self, wanted: bool) -> None:
        """To be called some times a second; ``wanted``: somebody listens to the node."""
        self._wanted = wanted
        self._info.update(wanted)
        self._image.update(wanted)
        if not self._image.is_open:
            self._quiet_since = time.monotonic()

    def close(self) -> None:
        self._wanted = False
        self._info.close()
        self._image.close()

    def silence(self) -> str | None:
        """Why nothing comes that somebody listens for, and what to do; None where all is well."""
        if self._wanted and not self._image.is_open:
            return f"nobody publishes {self.topic}: start the camera, or remap image to its topic"
        quiet = time.monotonic() - self._quiet_since
        if quiet < _SILENT_AFTER_S or not self._wanted:
            return None
        return (
            f"a publisher of {self.topic} is there, but nothing has arrived for {quiet:.0f} s:"
            " it sends nothing, or its frames are lost on the way, as large best-effort images are"
            " by Fast DDS's default transport; start it and this node with the environment variable"
            " FASTDDS_DEFAULT_PROFILES_FILE set to unirestore_ros' config/fastdds.xml"
        )

    def _hear_image(self, message: bytes) -> None:
        self._quiet_since = time.monotonic()
        self._on_image(message)
