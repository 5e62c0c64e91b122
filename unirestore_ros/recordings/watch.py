"""`bag watch TOPIC ...`: count what arrives on topics: how often, how old, which part of all.

Ages are the clock minus the stamp, so they hold for a live camera and `bag play --restamp`; with
`--ros-args -p use_sim_time:=true` also for `bag play --clock`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rclpy.node import Node

from unirestore_ros.files import written_beside
from unirestore_ros.node.process import ros_node
from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.arrivals import (
    TOPIC_HEAD,
    Arrival,
    Listener,
    Series,
    topic_rows,
)
from unirestore_ros.tables import text_table

_SPIN_S = 0.1
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
    topics = list(dict.fromkeys([*arguments.topics, *filter(None, [arguments.of])]))
    with ros_node("bag_watch", arguments=arguments.ros_arguments) as (node, stopped):
        watcher = Watcher(node, topics)
        watcher.watch(stopped, arguments.seconds, arguments.quiet)
    report = watcher.report(arguments.of)
    if arguments.out is not None:
        with written_beside(arguments.out) as path:
            path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(table(report))
    silent = [topic for topic, each in report["topics"].items() if not each["messages"]]
    if silent:
        raise RecordingError(f"nothing came on {', '.join(silent)}")
    return 0


class Watcher:
    """Notes when messages come, and the modes that restore_node's status gives its frames."""

    def __init__(self, node: Node, topics: Sequence[str]) -> None:
        self._node = node
        self._series = {topic: Series("") for topic in topics}
        self._modes: dict[str, dict[str, list[int]]] = {}
        self._last: float | None = None

    def watch(
        self, stopped: Callable[[], bool], seconds: float | None, quiet: float | None
    ) -> None:
        """Listen until stopped, for so many seconds, or until nothing has come for ``quiet``."""
        listener = Listener(self._node, self._series, self._receive)
        begun = time.monotonic()
        while not stopped():
            now = time.monotonic()
            if seconds is not None and now - begun > seconds:
                break
            if quiet is not None and self._last is not None and now - self._last > quiet:
                break
            listener.spin(_SPIN_S)
        listener.close()
        for topic, kind in listener.kinds.items():
            self._series[topic].kind = kind

    def report(self, of: str | None) -> dict[str, Any]:
        topics = {topic: series.report() for topic, series in self._series.items()}
        for topic, modes in self._modes.items():
            topics[topic]["modes"] = {mode: len(stamps) for mode, stamps in modes.items()}
        if of is None:
            return {"of": of, "topics": topics}
        by_stamp = self._series[of].tells_frames_apart
        restored = self._modes.get(of, {}).get(_RESTORED, [])
        for topic, series in self._series.items():
            topics[topic]["share"] = series.share_of(self._series[of].stamps, by_stamp)
            topics[topic]["share_of_restored"] = series.share_of(restored, by_stamp)
        return {"of": of, "counted_by": "stamp" if by_stamp else "number", "topics": topics}

    def _receive(self, arrival: Arrival) -> None:
        now = self._node.get_clock().now().nanoseconds
        self._last = time.monotonic()
        stamp = None if arrival.header is None else arrival.header.stamp_ns
        self._series[arrival.topic].add(now, stamp)
        if stamp is None:
            return
        for _, _, values in arrival.statuses():
            if "mode" in values:
                modes = self._modes.setdefault(arrival.topic, {})
                modes.setdefault(values["mode"], []).append(stamp)


def table(report: dict[str, Any]) -> str:
    """Write the report out for the user."""
    topics = report["topics"]
    rows = topic_rows(topics)
    head: tuple[str, ...] = TOPIC_HEAD
    if report["of"] is not None:
        head = (*head, "of all", "of restored")
        for row, each in zip(rows, topics.values(), strict=True):
            for share in (each.get("share"), each.get("share_of_restored")):
                row.append(None if share is None else f"{share:.1%}")
    lines = [text_table(head, rows)]
    if report.get("counted_by") == "number" and topics[report["of"]]["messages"]:
        lines.append(f"stamps of {report['of']} are all alike: frames are counted by number")
    for topic, each in topics.items():
        if "modes" in each:
            modes = ", ".join(f"{count} {mode}" for mode, count in each["modes"].items())
            lines.append(f"{topic}: {modes}")
    return "\n".join(lines)
