"""Subscriptions that fit what is published, and that exist only while somebody wants them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription


def offered_reliability(node: Node, topic: str) -> ReliabilityPolicy | None:
    """Reliable if every publisher offers it, else best effort, which every publisher serves; None
    where there is no publisher."""
    offered = {info.qos_profile.reliability for info in node.get_publishers_info_by_topic(topic)}
    if not offered:
        return None
    only_reliable = offered == {ReliabilityPolicy.RELIABLE}
    return ReliabilityPolicy.RELIABLE if only_reliable else ReliabilityPolicy.BEST_EFFORT


def offered_durability(node: Node, topic: str) -> DurabilityPolicy:
    """Transient local if every publisher offers it, else volatile, which every publisher serves."""
    offered = {info.qos_profile.durability for info in node.get_publishers_info_by_topic(topic)}
    is_kept = offered == {DurabilityPolicy.TRANSIENT_LOCAL}
    return DurabilityPolicy.TRANSIENT_LOCAL if is_kept else DurabilityPolicy.VOLATILE


class _Offer(NamedTuple):
    """QoS that fits what is published."""

    reliability: ReliabilityPolicy
    durability: DurabilityPolicy


def surviving(
    callback: Callable[..., None], on_error: Callable[[Exception], None]
) -> Callable[..., None]:
    """Return a callback for messages of others that costs the message, and not this process, where
    it fails in a way that nobody foresaw; ``on_error`` is called with the exception."""

    @functools.wraps(callback)  # rclpy looks at its parameters
    def receive(*arguments: Any) -> None:
        try:
            callback(*arguments)
        except Exception as error:
            # The boundary to foreign data: what it can do to this program cannot all be known, and
            # the driver needs the next image more than a traceback.
            on_error(error)

    return receive


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
        latched: bool = False,
    ) -> None:
        """``reliability``: auto, reliable or best_effort. ``raw``: the callback takes the message's
        bytes as they came. ``latched``: what was published before is wanted too, where the
        publishers keep it."""
        self.topic = topic
        self._raw = raw
        self._node = node
        self._kind = kind
        self._callback = callback
        self._setting = reliability
        self._subscription: Subscription | None = None
        self._latched = latched
        self._offer: _Offer | None = None

    @property
    def is_open(self) -> bool:
        return self._subscription is not None

    def update(self, wanted: bool) -> None:
        """Subscribe, resubscribe with another QoS, or unsubscribe."""
        offer = self._offer_to_take() if wanted else None
        if offer != self._offer:
            self.close()
            if offer is not None:
                self._open(offer)

    def close(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = self._offer = None

    def _open(self, offer: _Offer) -> None:
        self._offer = offer
        self._subscription = self._node.create_subscription(
            self._kind,
            self.topic,
            self._callback,
            QoSProfile(depth=1, **offer._asdict()),
            raw=self._raw,
        )

    def _offer_to_take(self) -> _Offer | None:
        # Without a publisher there is nothing to choose by. Subscribing anyway, and again once the
        # choice is known, would lose the first frames.
        offered = offered_reliability(self._node, self.topic)
        if offered is None:
            return None
        durability = DurabilityPolicy.VOLATILE
        if self._latched:
            durability = offered_durability(self._node, self.topic)
        if self._setting != "auto":
            offered = ReliabilityPolicy[self._setting.upper()]
        return _Offer(offered, durability)
