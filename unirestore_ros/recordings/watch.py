"""`bag watch TOPIC ...`: what arrives on topics: how often, how old, which part of all there was.

Ages are the clock minus the stamp, so they hold for a live camera and `bag play --restamp`; with
`--ros-args -p use_sim_time:=true` also for `bag play --clock`.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message

from unirestore_ros.files import written_beside
from unirestore_ros.msgs.subscribing import offered_reliability
from unirestore_ros.node.process import keep_image_buffers, ros_node
from unirestore_ros.recordings.errors import MediaError
from unirestore_ros.recordings.header import read_header
from unirestore_ros.recordings.play import message_class
from unirestore_ros.recordings.series import TOPIC_HEAD, Series, topic_rows
from unirestore_ros.tables import text_table

_SPIN_S = 0.1
_LOOK_EVERY_S = 0.5
_DEPTH = 20
_LENGTH_BYTES = 4  # of a list, in CDR
_RESTORED = "restored"  # a mode, as the node's status has it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("topics", nargs="+", metavar="TOPIC", help="to subscribe")
    add(
        "--of",
        metavar="TOPIC",
        help="count which part of this topic's frames each topic had: ~/status of restore_node,"
        " of whose frames those that are restored are counted apart",
    )
    add("--seconds", type=float, metavar="S", help="stop after that")
    add("--quiet", type=float, metavar="S", help="stop when nothing has come for so long")
    add("--out", type=Path, metavar="FILE", help="write the table as JSON too")


def run(arguments: argparse.Namespace) -> int:
    keep_image_buffers()
    with ros_node("bag_watch", arguments=arguments.ros_arguments) as (node, stopped):
        watcher = Watcher(node, list(dict.fromkeys([*arguments.topics, *_one(arguments.of)])))
        watcher.watch(stopped, arguments.seconds, arguments.quiet)
    report = watcher.report(arguments.of)
    if arguments.out is not None:
        with written_beside(arguments.out) as path:
            path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(table(report))
    silent = [topic for topic, each in report["topics"].items() if not each["messages"]]
    if silent:
        raise MediaError(f"nothing came on {', '.join(silent)}")
    return 0


class Watcher:
    """Subscribes each topic as soon as somebody publishes it, and notes when messages come."""

    def __init__(self, node: Node, topics: Sequence[str]) -> None:
        self._node = node
        self._names = {topic: node.resolve_topic_name(topic) for topic in topics}
        self._series: dict[str, Series] = {}
        self._modes: dict[str, dict[str, set[int]]] = {}
        self._last = time.monotonic()

    def watch(
        self, stopped: Callable[[], bool], seconds: float | None, quiet: float | None
    ) -> None:
        executor = SingleThreadedExecutor(context=self._node.context)
        executor.add_node(self._node)
        begun, looked = time.monotonic(), 0.0
        while not stopped():
            now = time.monotonic()
            if seconds is not None and now - begun > seconds:
                break
            heard = any(series.times for series in self._series.values())
            if quiet is not None and heard and now - self._last > quiet:
                break
            if len(self._series) < len(self._names) and now - looked > _LOOK_EVERY_S:
                looked = now
                self._subscribe()
            executor.spin_once(_SPIN_S)
        executor.shutdown()

    def report(self, of: str | None) -> dict[str, Any]:
        topics = {topic: self._report(topic) for topic in self._names}
        if of is not None and of in self._series:
            stamps = set(self._series[of].stamps)
            restored = self._modes.get(of, {}).get(_RESTORED, set())
            for topic, series in self._series.items():
                topics[topic]["share"] = series.share_of(stamps)
                topics[topic]["share_of_restored"] = series.share_of(restored)
        return {"of": of, "topics": topics}

    def _report(self, topic: str) -> dict[str, Any]:
        report = self._series.get(topic, Series("")).report()
        if topic in self._modes:
            report["modes"] = {mode: len(each) for mode, each in self._modes[topic].items()}
        return report

    def _subscribe(self) -> None:
        graph = dict(self._node.get_topic_names_and_types())
        for topic, name in self._names.items():
            if topic in self._series or name not in graph:
                continue
            kind = message_class(graph[name][0])
            reliability = offered_reliability(self._node, name)
            if kind is None or reliability is None:
                continue
            self._series[topic] = Series(graph[name][0])
            hear = partial(self._hear, topic, header_place(kind), kind is DiagnosticArray)
            qos = QoSProfile(depth=_DEPTH, reliability=reliability)
            self._node.create_subscription(kind, name, hear, qos, raw=True)

    def _hear(self, topic: str, place: int | None, diagnostics: bool, data: bytes) -> None:
        now = self._node.get_clock().now().nanoseconds
        self._last = time.monotonic()
        header = None if place is None else read_header(data, place)
        self._series[topic].add(now, None if header is None else header.stamp_ns)
        if diagnostics and header is not None:
            for status in deserialize_message(data, DiagnosticArray).status:
                for pair in status.values:
                    if pair.key == "mode":
                        modes = self._modes.setdefault(topic, {})
                        modes.setdefault(pair.value, set()).add(header.stamp_ns)


def header_place(kind: Any) -> int | None:
    """Where a message has its header: at its beginning, or of a list (as MarkerArray's) behind the
    length; None where it has none."""
    first = next(iter(kind.get_fields_and_field_types().values()), "")
    if first == "std_msgs/Header":
        return 0
    element = re.fullmatch(r"sequence<(\w+/\w+)>", first)
    inner = message_class(element[1]) if element else None
    return _LENGTH_BYTES if inner is not None and header_place(inner) == 0 else None


def table(report: dict[str, Any]) -> str:
    """The report for the user."""
    topics = report["topics"]
    rows = topic_rows(topics)
    head: tuple[str, ...] = TOPIC_HEAD
    if report["of"] is not None:
        head = (*head, "of all", "of restored")
        for row, each in zip(rows, topics.values(), strict=True):
            for share in (each.get("share"), each.get("share_of_restored")):
                row.append(None if share is None else f"{share:.1%}")
    lines = [text_table(head, rows)]
    for topic, each in topics.items():
        if "modes" in each:
            modes = ", ".join(f"{count} {mode}" for mode, count in each["modes"].items())
            lines.append(f"{topic}: {modes}")
    return "\n".join(lines)


def _one(topic: str | None) -> list[str]:
    return [] if topic is None else [topic]
