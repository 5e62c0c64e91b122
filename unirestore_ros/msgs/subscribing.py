"""Subscriptions that fit what is published, and that exist only while somebody wants them."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription


def offered_reliability(node: Node, topic: str) -> ReliabilityPolicy | None:
    """Reliable if every publisher offers it, else best effort, which every publisher serves; None
    where there is no publisher."""
    offered = {info.qos_profile.reliability for info in node.get_publishers_info_by_topic(topic)}
    if not offered:
        return None
    only_reliable = offered == {ReliabilityPolicy.RELIABLE}
    return ReliabilityPolicy.RELIABLE if only_reliable else ReliabilityPolicy.BEST_EFFORT


class OnDemandSubscription:
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
        """``reliability``: auto, reliable or best_effort. ``raw``: the callback takes the message's
        bytes as they came."""
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
        """Subscribe, resubscribe with another QoS, or unsubscribe."""
        reliability = self._reliability_to_use() if wanted else None
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

    def _reliability_to_use(self) -> ReliabilityPolicy | None:
        # Without a publisher there is nothing to choose by. Subscribing anyway, and again once the
        # choice is known, would lose the first frames.
        offered = offered_reliability(self._node, self.topic)
        if offered is None or self._setting == "auto":
            return offered
        return ReliabilityPolicy[self._setting.upper()]
