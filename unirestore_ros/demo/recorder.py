"""The recorder of the demo: a process that keeps on disk what the node publishes.

    python -m unirestore_ros.demo.recorder FOLDER JOURNAL --features TASK ... --feature-period S

Every image and some of the feature maps are written to FOLDER as arrays; the journal has a line
for every message. It runs until SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from unirestore_ros.demo import names
from unirestore_ros.demo.journal import JournalWriter
from unirestore_ros.demo.ros_process import RECORDER_QOS, ros_node
from unirestore_ros.recordings.pictures import bgr_of, features_of

_SPIN_S = 0.1


class Recorder:
    """Subscribes the node's outputs; each message is on disk before it is in the journal."""

    def __init__(
        self, node: Node, folder: Path, journal: JournalWriter, feature_period_ns: int
    ) -> None:
        self._node = node
        self._folder = folder
        self._journal = journal
        self._period_ns = feature_period_ns
        self._last_kept: dict[str, int] = {}
        self._last_diagnostics: dict[str, dict[str, str]] = {}

    def subscribe(self, tasks: list[str]) -> None:
        """Subscribe the driver's image, status, diagnostics and the features of ``tasks``."""
        self._listen(Image, names.IMAGE, self._on_image)
        self._listen(DiagnosticArray, names.STATUS, self._on_status)
        self._listen(DiagnosticArray, names.DIAGNOSTICS, self._on_diagnostics)
        for task in tasks:
            self._listen(Image, names.features_topic(task), partial(self._on_features, task))

    def _listen(self, kind: type, topic: str, callback: Callable[..., None]) -> None:
        self._node.create_subscription(kind, topic, callback, RECORDER_QOS)

    def _on_image(self, message: Image) -> None:
        received, stamp = time.time_ns(), _stamp(message.header)
        name = f"image_{stamp}.npy"
        np.save(self._folder / name, bgr_of(message))
        self._journal.add(what="image", stamp=stamp, received=received, file=name, **_form(message))

    def _on_features(self, task: str, message: Image) -> None:
        received, stamp = time.time_ns(), _stamp(message.header)
        name = None
        # By the stamp's period, so that the maps kept are of the same frames for all tasks.
        if self._last_kept.get(task) != (period := stamp // self._period_ns):
            self._last_kept[task] = period
            name = f"{task}_{stamp}.npy"
            np.save(self._folder / name, features_of(message))
        self._journal.add(
            what="features", task=task, stamp=stamp, received=received, file=name, **_form(message)
        )

    def _on_status(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            self._journal.add(what="status", stamp=_stamp(message.header), values=values)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        """One entry a second; other nodes of the network report there too."""
        for status in message.status:
            if status.name != names.RESTORER:
                continue
            values = {pair.key: pair.value for pair in status.values}
            self._journal.add(
                what="diagnostics",
                received=time.time_ns(),
                message=status.message,
                values=values,
            )


def _stamp(header: Header) -> int:
    return int(Time.from_msg(header.stamp).nanoseconds)


def _form(message: Image) -> dict[str, str | int]:
    return {
        "encoding": message.encoding,
        "height": message.height,
        "width": message.width,
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("journal", type=Path)
    parser.add_argument("--features", nargs="*", default=[], metavar="TASK")
    parser.add_argument("--feature-period", type=float, default=1.0, metavar="SECONDS")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with (
        ros_node("recorder") as (node, stopped),
        JournalWriter(arguments.journal) as journal,
    ):
        period_ns = round(arguments.feature_period * 1e9)
        recorder = Recorder(node, arguments.folder, journal, period_ns)
        recorder.subscribe(arguments.features)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not stopped():
            executor.spin_once(timeout_sec=_SPIN_S)
        executor.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
