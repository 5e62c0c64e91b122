"""The camera's topics, subscribed while somebody subscribes to the node's."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from unirestore_ros.msgs.camera_info import COMPRESSED
from unirestore_ros.msgs.subscribing import OnDemandSubscription, surviving
from unirestore_ros.msgs.transport import PROFILE, profile_variable
from unirestore_ros.node.parameters import Parameters

_SILENT_AFTER_S = 3.0


class CameraInput:
    """The image, raw or compressed, as the bytes of its message, and the CameraInfo beside it."""

    def __init__(
        self,
        node: Node,
        parameters: Parameters,
        on_image: Callable[[bytes], None],
        on_info: Callable[[CameraInfo], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """``on_error`` is called with what ``on_image`` or ``on_info`` raises, which costs that
        message only."""
        # Derived from the name that `image` resolves to, as image_transport does.
        image = node.resolve_topic_name("image")
        compressed = parameters.input_transport == "compressed"
        kind, topic = (CompressedImage, image + COMPRESSED) if compressed else (Image, image)
        reliability = parameters.input_reliability
        self._on_image = on_image
        receive = surviving(self._receive_image, on_error)
        self._image = OnDemandSubscription(node, kind, topic, receive, reliability)
        self._info = OnDemandSubscription(
            node,
            CameraInfo,
            node.resolve_topic_name("camera_info"),
            surviving(on_info, on_error),
            reliability,
            raw=False,
            latched=True,
        )
        self._wanted = False
        self._quiet_since = time.monotonic()

    @property
    def topic(self) -> str:
        """Return the name of the image's topic."""
        return self._image.topic

    def update(self, wanted: bool) -> None:
        """Subscribe or unsubscribe; to be called some times a second. ``wanted``: whether somebody
        subscribes to the node."""
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
        """Say why no frame comes although one is wanted, and what to do; None where all is well."""
        if self._wanted and not self._image.is_open:
            return f"nobody publishes {self.topic}: start the camera, or remap image to its topic"
        quiet = time.monotonic() - self._quiet_since
        if quiet < _SILENT_AFTER_S or not self._wanted:
            return None
        return (
            f"a publisher of {self.topic} is there, but nothing has arrived for {quiet:.0f} s:"
            " it sends nothing, or its frames are lost on the way, as large best-effort images are"
            " by Fast DDS's default transport; start it and this node with the environment variable"
            f" {profile_variable()} set to unirestore_ros' {PROFILE}"
        )

    def _receive_image(self, message: bytes) -> None:
        self._quiet_since = time.monotonic()
        self._on_image(message)
