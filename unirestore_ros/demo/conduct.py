"""The play: node, recorder and player as three processes, watched until the last frame is out."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from unirestore_ros.demo import names
from unirestore_ros.demo.errors import DemoError
from unirestore_ros.demo.journal import Entry, JournalReader
from unirestore_ros.demo.processes import Child, Children, children
from unirestore_ros.demo.record import Record, read_record
from unirestore_ros.demo.spool import Spool
from unirestore_ros.msgs.rates import mean_rate
from unirestore_ros.msgs.transport import ProfileMissing, with_image_transport

_LOOK_EVERY_S = 0.1
# A processor may take longer for a frame than the vehicle's GPU, for which the defaults are: the
# demo would rather show old frames than none.
_PATIENCE = ("fallback_after_ms:=3000", "max_age_ms:=3000")
_KEPT_FEATURES = 60  # maps of each task, spread over the play
_LEAST_FEATURE_PERIOD_S = 0.5
# A player that has begun and publishes nothing for this long beyond what is due has failed.
_STALL_S = 20.0
# How long after the last frame was sent the outputs may still be coming.
_QUIET_S = 5.0

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Play:
    """What is played, and how the node is started."""

    spool: Spool
    bundle: Path
    parameters: Sequence[str]
    """Of the node, as NAME:=VALUE."""
    tasks: Sequence[str]
    """Machine tasks whose features are recorded."""
    work: Path
    """An empty folder for journals, logs and what is recorded."""

    @property
    def player_journal(self) -> Path:
        return self.work / "player.jsonl"

    @property
    def recorder_journal(self) -> Path:
        return self.work / "recorder.jsonl"

    @property
    def recorded(self) -> Path:
        return self.work / "recorded"


def conduct(play: Play) -> Record:
    """Run the three processes until all is played and recorded; DemoError where one fails."""
    play.recorded.mkdir()
    logs = play.work / "logs"
    logs.mkdir()
    with children(child_environment(logs), logs) as group:
        node = group.start("node", *_node_arguments(play))
        recorder = group.start("recorder", *_recorder_arguments(play))
        player = group.start("player", *_player_arguments(play))
        _Watch(play, group, (node, recorder), player).until_all_is_out()
        if recorder.end() != 0:
            recorder.check()
        if (status := node.end()) != 0:
            _log.warning(
                "the node ended with exit status %d after SIGINT:\n%s", status, node.tail()
            )
    record = read_record(play.player_journal, play.recorder_journal, play.recorded)
    if not record.restored:
        said = f" ({record.verdict})" if record.verdict else ""
        raise node.failure(f"the node restored none of {len(record.played_ns)} frames{said}")
    return record


def child_environment(log_folder: Path) -> dict[str, str]:
    """The parent's environment, with what images over DDS need where the user has not set it."""
    try:
        environment = with_image_transport(os.environ)
    except ProfileMissing as error:
        raise DemoError(str(error)) from error
    environment.setdefault("ROS_LOG_DIR", str(log_folder))
    # ament_index_python needs it to be set, also where ROS comes as wheels.
    environment.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    # The demo stays on this machine.
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def _node_arguments(play: Play) -> list[str]:
    remaps = {
        "__ns": names.NAMESPACE,
        "__node": names.NODE_NAME,
        "image": names.CAMERA,
        "camera_info": names.CAMERA_INFO,
    }
    return [
        *("-m", "unirestore_ros", "restore_node", "--ros-args"),
        *(word for old, new in remaps.items() for word in ("-r", f"{old}:={new}")),
        *(
            word
            for each in (f"bundle:={play.bundle}", *_PATIENCE, *play.parameters)
            for word in ("-p", each)
        ),
    ]


def _recorder_arguments(play: Play) -> list[str]:
    span_s = play.spool.entries[-1].offset_ns / 1e9
    return [
        *("-m", "unirestore_ros.demo.recorder", str(play.recorded), str(play.recorder_journal)),
        *("--feature-period", str(max(_LEAST_FEATURE_PERIOD_S, span_s / _KEPT_FEATURES))),
        *("--features", *play.tasks),
    ]


def _player_arguments(play: Play) -> list[str]:
    return [
        *("-m", "unirestore_ros.demo.player", str(play.spool.folder), str(play.player_journal)),
        *("--features", *play.tasks),
    ]


class _Watch:
    """Looks at processes and journals until the drive is over, and shows how far it is."""

    def __init__(
        self, play: Play, group: Children, listeners: Sequence[Child], player: Child
    ) -> None:
        self._play = play
        self._group = group
        self._listeners = listeners
        self._player = player
        self._played = JournalReader(play.player_journal)
        self._recorded = JournalReader(play.recorder_journal)
        self._first_stamp: int | None = None
        self._last_stamp: int | None = None
        self._missing: set[str] = set()
        self._slowing = 1.0
        self._restored = 0
        self._news = time.monotonic()

    def until_all_is_out(self) -> None:
        """Return when the last frame's outputs are recorded, or nothing has come for a while."""
        with tqdm(
            total=len(self._play.spool), desc="starting the node", unit="frame", mininterval=0.5
        ) as bar:
            while not self._is_over():
                time.sleep(_LOOK_EVERY_S)
                self._look(bar)
                self._check()
            self._look(bar)

    def _look(self, bar: tqdm) -> None:
        played = self._played.new_entries()
        for entry in played:
            if "slowing" in entry:
                self._tell_slowing(entry["slowing"])
                continue
            self._first_stamp = self._first_stamp or entry["stamp"]
            self._last_stamp = entry["stamp"]
            self._missing = {"image", *self._play.tasks}
        # Diagnostics come for as long as the node lives: they are no sign of progress.
        recorded = [entry for entry in self._recorded.new_entries() if "stamp" in entry]
        for entry in recorded:
            self._take(entry)
        if played or recorded:
            self._news = time.monotonic()
        if played:
            bar.set_description("playing")
            bar.update(sum("stamp" in entry for entry in played))
        bar.set_postfix(restored=self._restored, refresh=False)

    def _tell_slowing(self, factor: float) -> None:
        self._slowing = factor
        rate = mean_rate([entry.offset_ns for entry in self._play.spool.entries])
        if rate is not None and factor > 1.0:
            _log.info("the node cannot hold %.3g frames/s here: playing %.3g", rate, rate / factor)

    def _take(self, entry: Entry) -> None:
        if self._first_stamp is None or entry["stamp"] < self._first_stamp:
            return  # the player's warm-up
        if entry["what"] == "status":
            self._restored += entry["values"].get("mode") == names.RESTORED_MODE
        if entry["stamp"] == self._last_stamp:
            self._missing.discard(entry.get("task", entry["what"]))

    def _is_over(self) -> bool:
        if self._player.exit_code() != 0:
            return False
        return not self._missing or self._quiet_s() > _QUIET_S

    def _check(self) -> None:
        self._group.check()
        for child in self._listeners:
            if child.exit_code() is not None:
                raise child.failure(f"the {child.name} ended before the drive was over")
        if self._quiet_s() > self._longest_pause_s() + _STALL_S:
            raise self._player.failure("the player has stopped publishing")

    def _quiet_s(self) -> float:
        return time.monotonic() - self._news

    def _longest_pause_s(self) -> float:
        if self._last_stamp is None:
            return names.DISCOVERY_LIMIT_S
        due = [entry.offset_ns for entry in self._play.spool.entries]
        longest = max((b - a for a, b in itertools.pairwise(due)), default=0)
        return longest / 1e9 * self._slowing
