"""What the display asks of the restore_node beside its pictures: its diagnostics, its tasks, and to
be switched on or off."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import SetBool

_SILENT_AFTER_S = 3.0
_ANSWER_WITHIN_S = 5.0
_FEATURES = "/features"


class RestorerLink:
    """For ROS's thread, but for `enable`."""

    def __init__(self, node: Node, name: str, notify: Callable[[str], None]) -> None:
        """``notify`` gets what the viewer is to be told of a request."""
        self.name: str = node.resolve_topic_name(name)
        """With its namespace."""
        self._node = node
        self._notify = notify
        self._values: dict[str, str] = {}
        self._heard = -_SILENT_AFTER_S
        # A page may ask at any rate: only the newest wish is kept, and one call is on its way.
        self._wish: deque[bool] = deque(maxlen=1)
        self._asked: Future[SetBool.Response] | None = None
        self._asked_at = 0.0
        self._set_enabled: Client = node.create_client(SetBool, f"{self.name}/set_enabled")
        node.create_subscription(DiagnosticArray, "/diagnostics", self._hear, 10)

    def values(self) -> dict[str, str]:
        """Its diagnostics, with their ``message``; empty where it has been silent for seconds."""
        return self._values if time.monotonic() - self._heard < _SILENT_AFTER_S else {}

    def tasks(self) -> dict[str, bool]:
        """Its machine tasks, and whether anybody listens to their features: without, they are not
        computed."""
        start = self.name + "/"
        topics = [name for name, _ in self._node.get_topic_names_and_types()]
        return {
            topic[len(start) : -len(_FEATURES)]: self._node.count_subscribers(topic) > 0
            for topic in sorted(topics)
            if topic.startswith(start) and topic.endswith(_FEATURES)
        }

    def enable(self, enabled: bool) -> None:
        """Ask it to restore, or not to, at the next `send_wish`; from any thread. The newest wish
        counts."""
        self._wish.append(enabled)

    def send_wish(self) -> None:
        """Call it, where there is a wish and no call on its way; to be called often."""
        if self._asked is not None and not self._asked.done():
            if time.monotonic() - self._asked_at < _ANSWER_WITHIN_S:
                return
            self._set_enabled.remove_pending_request(self._asked)
            self._notify(f"{self.name} has not answered in {_ANSWER_WITHIN_S:.0f} s")
        self._asked = None
        if not self._wish:
            return
        wish = self._wish.pop()
        if not self._set_enabled.service_is_ready():
            self._notify(f"{self.name} does not answer: is restore_node running?")
            return
        self._asked_at = time.monotonic()
        self._asked = self._set_enabled.call_async(SetBool.Request(data=wish))
        self._asked.add_done_callback(self._tell)

    def _tell(self, asked: Future[SetBool.Response]) -> None:
        answer = asked.result()
        if answer is not None and not answer.success:
            self._notify(f"{self.name}: {answer.message}")

    def _hear(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self.name:
                self._values = {pair.key: pair.value for pair in status.values}
                self._values["message"] = status.message
                self._heard = time.monotonic()
