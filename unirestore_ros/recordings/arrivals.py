"""Subscribe topics of any type, and report when their messages came: rates, gaps, ages."""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message

from unirestore_ros.msgs.cdr import MalformedMessage
from unirestore_ros.msgs.rates import mean_rate
from unirestore_ros.msgs.subscribing import offered_reliability
from unirestore_ros.recordings.headers import Header, read_header

TOPIC_HEAD = ("topic", "messages", "Hz", "gap p50", "p99 ms", "age p50", "p99 ms")

_DEPTH = 20
_LENGTH_BYTES = 4  # of a list, in CDR
_SEARCH_EVERY_S = 0.5
# No message is on its way for an hour: its stamp is of another clock, or of an earlier drive.
_AN_AGE_MS = 3_600_000


class Arrival(NamedTuple):
    """A message that came: its topic as it was asked for, its type, and its bytes."""

    topic: str
    kind: type
    data: bytes
    header: Header | None
    """None where its type has none."""

    def statuses(self) -> list[tuple[str, str, dict[str, str]]]:
        """Read name, message and values of each status of a DiagnosticArray; else none."""
        if self.kind is not DiagnosticArray:
            return []
        return statuses_of(self.data)


class Listener:
    """Subscribes each topic, of whatever type, as soon as somebody publishes it."""

    def __init__(
        self, node: Node, topics: Iterable[str], receive: Callable[[Arrival], object]
    ) -> None:
        self._node = node
        self._receive = receive
        self._waiting = {topic: node.resolve_topic_name(topic) for topic in topics}
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._searched = 0.0
        self.kinds: dict[str, str] = {}
        """The type of each topic that is subscribed."""

    def spin(self, seconds: float) -> None:
        """Receive what comes within that time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self._waiting and time.monotonic() - self._searched > _SEARCH_EVERY_S:
                self._searched = time.monotonic()
                self._subscribe()
            self._executor.spin_once(timeout_sec=min(left, _SEARCH_EVERY_S))

    @property
    def unpublished(self) -> list[str]:
        """Topics that nobody publishes, so that they are not subscribed yet."""
        return list(self._waiting)

    def close(self) -> None:
        self._executor.shutdown()

    def _subscribe(self) -> None:
        graph = dict(self._node.get_topic_names_and_types())
        for topic, name in list(self._waiting.items()):
            kind = message_class(graph[name][0]) if name in graph else None
            reliability = offered_reliability(self._node, name)
            if kind is None or reliability is None:
                continue
            self.kinds[topic] = graph[name][0]
            del self._waiting[topic]
            callback = partial(self._on_message, topic, kind, header_place(kind))
            qos = QoSProfile(depth=_DEPTH, reliability=reliability)
            self._node.create_subscription(kind, name, callback, qos, raw=True)

    def _on_message(self, topic: str, kind: type, place: int | None, data: bytes) -> None:
        header = None if place is None else read_header(data, place)
        self._receive(Arrival(topic, kind, data, header))


def message_class(kind: str) -> type | None:
    """Find the Python class of `package/msg/Name`; None where its package is not installed."""
    package, _, name = kind.replace("/msg/", "/").partition("/")
    if not package.isidentifier():
        return None  # in a damaged bag a type may be called anything
    try:
        found: Any = getattr(importlib.import_module(f"{package}.msg"), name, None)
    except ModuleNotFoundError:
        return None
    return found if isinstance(found, type) else None


def header_place(kind: Any) -> int | None:
    """Find where a type's messages have their header: at the beginning, or in a list
    (as MarkerArray's) behind the length; None where they have none."""
    first = next(iter(kind.get_fields_and_field_types().values()), "")
    if first == "std_msgs/Header":
        return 0
    element = re.fullmatch(r"sequence<(\w+/\w+)>", first)
    inner = message_class(element[1]) if element else None
    return _LENGTH_BYTES if inner is not None and header_place(inner) == 0 else None


def statuses_of(data: bytes) -> list[tuple[str, str, dict[str, str]]]:
    """Read name, message and values of each status of a serialised DiagnosticArray;
    MalformedMessage where the bytes end early or are not CDR."""
    try:
        array = deserialize_message(data, DiagnosticArray)
    except RuntimeError as error:  # of the middleware
        raise MalformedMessage("the DiagnosticArray is damaged") from error
    return [
        (status.name, status.message, {pair.key: pair.value for pair in status.values})
        for status in array.status
    ]


class Series:
    """Times of one topic's messages, in nanoseconds; a message without a header has no stamp."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.times: list[int] = []
        self.stamps: list[int] = []

    def add(self, time_ns: int, stamp_ns: int | None) -> None:
        self.times.append(time_ns)
        if stamp_ns is not None:
            self.stamps.append(stamp_ns)

    def report(self) -> dict[str, Any]:
        """Summarise as JSON has it: null where there is no value."""
        rate = mean_rate(self.times)
        return {
            "type": self.kind,
            "messages": len(self.times),
            "hz": None if rate is None else round(rate, 3),
            "gap_ms": percentiles_ms(np.diff(sorted(self.times))),
            "age_ms": self._ages(),
        }

    @property
    def tells_frames_apart(self) -> bool:
        """Whether stamps are of one frame each: False where they are zero or all alike."""
        return any(self.stamps) and (len(self.stamps) == 1 or len(set(self.stamps)) > 1)

    def share_of(self, stamps: Collection[int], by_stamp: bool = True) -> float | None:
        """Return which part of those stamps arrived; by number where messages have no header, or
        not ``by_stamp``."""
        if not stamps:
            return None
        if by_stamp and self.stamps:
            wanted = set(stamps)
            return round(len(wanted & set(self.stamps)) / len(wanted), 4)
        return round(min(len(self.times), len(stamps)) / len(stamps), 4)

    def _ages(self) -> dict[str, float] | None:
        if not self.stamps or len(self.stamps) != len(self.times):
            return None
        return percentiles_ms(np.subtract(self.times, self.stamps))


def percentiles_ms(values_ns: np.ndarray) -> dict[str, float] | None:
    """Return median, 99th percentile and largest of nanoseconds, (n,) int64, in milliseconds."""
    if len(values_ns) == 0:
        return None
    p50, p99, largest = np.percentile(values_ns, (50, 99, 100)) / 1e6
    return {
        "p50": round(float(p50), 2),
        "p99": round(float(p99), 2),
        "max": round(float(largest), 2),
    }


def topic_rows(topics: dict[str, dict[str, Any]]) -> list[list[object]]:
    """Lay reports out in the columns of ``TOPIC_HEAD``."""
    return [
        [topic, each["messages"], each["hz"], *_two(each["gap_ms"]), *_ages(each["age_ms"])]
        for topic, each in topics.items()
    ]


def _ages(figures: dict[str, float] | None) -> list[object]:
    if figures and abs(figures["p50"]) > _AN_AGE_MS:
        return ["other clock", None]
    return _two(figures)


def _two(figures: dict[str, float] | None) -> list[object]:
    return [figures["p50"], figures["p99"]] if figures else [None, None]
