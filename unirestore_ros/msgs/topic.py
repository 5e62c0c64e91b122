"""A topic of the node: its messages leave in a thread of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.lifecycle import LifecyclePublisher
from rclpy.publisher import Publisher
from rclpy.serialization import serialize_message

from unirestore_ros.msgs.newest import NewestWins
from unirestore_ros.msgs.rcl import PublishError, publish_serialized

_LOG_EVERY_S = 5.0


class Topic:
    """Sends the newest message; a subscriber that is stopped holds up this topic at most."""

    def __init__(self, publisher: Publisher, logger: RcutilsLogger) -> None:
        self.publisher = publisher
        self._logger = logger
        self._worker = NewestWins(self._publish, publisher.topic_name)

    def has_subscriber(self) -> bool:
        return bool(self.publisher.get_subscription_count() > 0)

    def send(self, message: NDArray[np.uint8]) -> None:
        """Send a message in CDR, whose memory may not change any more. Nothing while inactive."""
        if not isinstance(self.publisher, LifecyclePublisher) or self.publisher.is_activated:
            self._worker.offer(message)

    def send_object(self, message: Any) -> None:
        """Send a message as rclpy has it."""
        self.send(np.frombuffer(serialize_message(message), np.uint8))

    def stop(self) -> None:
        """End the thread; the publisher is its maker's to destroy."""
        self._worker.stop()

    def _publish(self, message: NDArray[np.uint8]) -> None:
        try:
            publish_serialized(self.publisher, message)
        except PublishError as error:
            self._logger.warning(f"not sent: {error}", throttle_duration_sec=_LOG_EVERY_S)
