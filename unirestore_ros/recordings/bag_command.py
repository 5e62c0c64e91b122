"""`bag`: make rosbag2 files from videos; play, restore offline, watch and compare them."""

from __future__ import annotations

import argparse
import importlib
import logging
import sqlite3
import sys
from typing import NamedTuple

# Every action needs both: where one is missing, `cli.run` says how to get it.
import rclpy  # noqa: F401
import rosbags  # noqa: F401
from tqdm.contrib.logging import logging_redirect_tqdm

from unirestore_ros.engine import BundleError, InferenceError
from unirestore_ros.memory import keep_image_buffers
from unirestore_ros.recordings import RecordingError
from unirestore_ros.signals import INTERRUPTED, signals_as_exits

_log = logging.getLogger(__name__)


class Action(NamedTuple):
    """A subcommand: its module has ``add_arguments(parser)`` and ``run(arguments) -> status``."""

    module: str
    summary: str


ACTIONS = {
    "make": Action(
        "unirestore_ros.recordings.make", "a bag with CameraInfo from a video or images"
    ),
    "play": Action("unirestore_ros.recordings.play", "publish a bag's messages, as ros2 bag play"),
    "restore": Action("unirestore_ros.recordings.bag_restore", "restore every camera, offline"),
    "watch": Action(
        "unirestore_ros.recordings.watch", "count what arrives on topics: rates and ages"
    ),
    "compare": Action(
        "unirestore_ros.recordings.compare", "report on a bag: rates, ages, drops, PSNR"
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Return the exit status: 0 when all was done, 1 when that failed, 130 when interrupted."""
    words = sys.argv[1:] if argv is None else argv
    words, ros_arguments = split_ros_arguments(words)
    parser = argparse.ArgumentParser(prog="unirestore_ros bag", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, action in ACTIONS.items():
        sub = actions.add_parser(name, help=action.summary, description=action.summary)
        # Only what is asked for is imported.
        if name in words[:1]:
            importlib.import_module(action.module).add_arguments(sub)
    arguments = parser.parse_args(words)
    arguments.ros_arguments = ros_arguments
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    keep_image_buffers()
    chosen = importlib.import_module(ACTIONS[arguments.action].module)
    try:
        with signals_as_exits(), logging_redirect_tqdm():
            status: int = chosen.run(arguments)
    # The writer of sqlite3 bags reports a full disk as an error of the database.
    except (RecordingError, BundleError, InferenceError, OSError, sqlite3.Error) as error:
        _log.error("bag %s: %s", arguments.action, error)
        return 1
    except KeyboardInterrupt:
        _log.error("bag %s: interrupted", arguments.action)
        return INTERRUPTED
    return status


def split_ros_arguments(words: list[str]) -> tuple[list[str], list[str]]:
    """Separate the command's own words from those between `--ros-args` and `--` or the end."""
    if "--ros-args" not in words:
        return words, []
    first = words.index("--ros-args")
    end = words.index("--", first) if "--" in words[first:] else len(words)
    return words[:first] + words[end + 1 :], words[first:end]
