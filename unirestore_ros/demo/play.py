"""Play a drive through the real node, a process of its own, and record what it publishes.

Player and recorder are of this process: what they send and receive goes over DDS between two
processes, as on a vehicle.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from tqdm import tqdm

from unirestore_ros.demo.drive import CAMERA, NAMESPACE, STORAGE, DriveBag
from unirestore_ros.demo.record import NODE_NAME, Record, Recorder
from unirestore_ros.memory import keep_image_buffers
from unirestore_ros.msgs.transport import ProfileMissing, with_image_transport
from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.arrivals import Listener
from unirestore_ros.recordings.play import Pace, Player, Playlist, make_playlist
from unirestore_ros.recordings.processes import Children
from unirestore_ros.recordings.storage import Reader, open_reader
from unirestore_ros.recordings.writing import new_writer

# A processor may take longer for a frame than the vehicle's GPU, for which the defaults are: the
# demo would rather show old frames than none.
_PATIENCE = ("fallback_after_ms:=3000", "max_age_ms:=3000")
_KEPT_FEATURES = 60  # maps of each task, spread over the play
_LEAST_FEATURE_PERIOD_S = 0.5
_DISCOVERY_LIMIT_S = 60.0
# Each side of a pair discovers the other by itself: a moment for the slower one.
_SETTLE_S = 0.5
_SPIN_S = 0.05
_WARM_UP_FRAMES = 4
_WARM_UP_PERIOD_S = 0.25
_WARM_UP_LIMIT_S = 15.0
# A frame is due this many times as late as the node takes for one, at least.
_HEADROOM = 1.25
# A node that is slower still skips frames, so that the play comes to an end.
_MOST_SLOWING = 4.0
# How long after the last frame was sent the outputs may still be coming.
_QUIET_S = 5.0

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Play:
    """What is played, and how the node is started."""

    bag: DriveBag
    bundle: Path
    parameters: Sequence[str]
    """The node's, each as NAME:=VALUE."""
    tasks: Sequence[str]
    """Machine tasks whose features are recorded."""
    work: Path
    """An empty folder for logs and what is recorded."""
    rate: float = 5.0
    """Frames a second at most."""

    @property
    def recorded(self) -> Path:
        return self.work / "recorded"


def run_play(play: Play) -> Record:
    """Start the node, play all and record it; RecordingError where that fails."""
    logs = play.work / "logs"
    logs.mkdir()
    keep_image_buffers()
    environment = child_environment(logs)
    with Children(environment, logs) as group, _as_own(environment):
        node = group.start("node", *_node_arguments(play))
        with (
            _ros_node() as own,
            open_reader(play.bag.folder) as reader,
            new_writer(play.recorded, STORAGE) as writer,
        ):
            span_s = play.bag.times_ns[-1] / 1e9 - play.bag.times_ns[0] / 1e9
            period_s = max(_LEAST_FEATURE_PERIOD_S, span_s / _KEPT_FEATURES)
            recorder = Recorder(writer, play.tasks, round(period_s * 1e9))
            with contextlib.closing(Listener(own, recorder.topics, recorder.receive)) as listener:
                performance = _Performance(play, own, reader, recorder, listener, group)
                record = recorder.record(performance.run())
        if (status := node.end()) != 0:
            _log.warning(
                "the node ended with exit status %d after SIGINT:\n%s", status, node.tail()
            )
    if not record.restored:
        reason = f" ({record.verdict})" if record.verdict else ""
        raise node.failure(f"the node restored none of {len(record.played_ns)} frames{reason}")
    return record


def child_environment(log_folder: Path) -> dict[str, str]:
    """Copy the environment and add what images over DDS need where the user has not set it."""
    try:
        environment = with_image_transport(os.environ)
    except ProfileMissing as error:
        raise RecordingError(str(error)) from error
    environment.setdefault("ROS_LOG_DIR", str(log_folder))
    # ament_index_python needs it to be set, also where ROS comes as wheels.
    environment.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    # The demo stays on this machine.
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def slowing(rate: float | None, latencies_s: Sequence[float]) -> float:
    """Return how many times slower the node needs frames that come at ``rate``, from 1 to 4.

    The first latency is left out: with the first frame the network's memory is set up.
    """
    if rate is None or len(latencies_s) < 2:
        return 1.0
    needed = statistics.median(latencies_s[1:]) * _HEADROOM * rate
    return min(max(1.0, needed), _MOST_SLOWING)


def _node_arguments(play: Play) -> list[str]:
    remaps = {
        "__ns": NAMESPACE,
        "__node": NODE_NAME,
        "image": CAMERA.image_topic,
        "camera_info": CAMERA.info_topic,
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


@contextlib.contextmanager
def _as_own(environment: dict[str, str]) -> Iterator[None]:
    """Give this process an environment, which Fast DDS reads when a node is made, for a while."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _ros_node() -> Iterator[Node]:
    """Make the node of player and recorder; a signal to stop leaves the block as an exception."""
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("drive", namespace=NAMESPACE)
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.shutdown()


class _Performance:
    """One play from discovery to the last output, with a progress bar."""

    def __init__(
        self,
        play: Play,
        own: Node,
        reader: Reader,
        recorder: Recorder,
        listener: Listener,
        group: Children,
    ) -> None:
        self._play = play
        self._own = own
        self._recorder = recorder
        self._listener = listener
        self._group = group
        self._playlist = make_playlist(reader, own, topics=(CAMERA.image_topic, CAMERA.info_topic))
        self._played_ns: list[int] = []

    def run(self) -> list[int]:
        """Play all; returns the stamps of the frames."""
        with tqdm(
            total=len(self._play.bag), desc="starting the node", unit="frame", mininterval=0.5
        ) as bar:
            self._wait_for_discovery()
            self._warm_up()
            bar.set_description("playing")
            self._play_frames(bar)
            self._wait_for_outputs(bar)
        return self._played_ns

    def _wait_for_discovery(self) -> None:
        """Wait until node, player and recorder have found each other; before, frames get lost."""
        deadline = time.monotonic() + _DISCOVERY_LIMIT_S
        while missing := self._missing():
            if time.monotonic() > deadline:
                raise self._group.failure(
                    f"not there after {_DISCOVERY_LIMIT_S:g} s: {'; '.join(missing)}"
                )
            self._spin(_SPIN_S)
        if self._own.count_publishers(CAMERA.image_topic) > 1:
            raise RecordingError(
                f"somebody else publishes on {CAMERA.image_topic}: another demo runs in this ROS"
                " domain; wait for its end, or set ROS_DOMAIN_ID to another number"
            )
        self._spin(_SETTLE_S)

    def _missing(self) -> list[str]:
        """Name what has not been discovered yet."""
        missing = [f"the node's publisher of {topic}" for topic in self._listener.unpublished]
        if self._own.count_subscribers(CAMERA.image_topic) == 0:
            missing.append(f"the node's subscription of {CAMERA.image_topic}")
        return missing

    def _warm_up(self) -> None:
        """Show the first frame until the node has restored it a few times, as a camera that runs
        before the car drives off."""
        first = self._playlist.first_ns
        still = self._player(self._playlist._replace(end_ns=first + 1), Pace(restamp=True))
        deadline = time.monotonic() + _WARM_UP_LIMIT_S
        while len(self._recorder.latencies_s) < _WARM_UP_FRAMES:
            if time.monotonic() > deadline:
                _log.warning("little was restored in %g s; playing nevertheless", _WARM_UP_LIMIT_S)
                return
            still.play()
            self._spin(_WARM_UP_PERIOD_S)

    def _play_frames(self, bar: tqdm) -> None:
        bag, wanted = self._play.bag, self._play.rate
        as_asked = bag.slowing(wanted)
        rate = None if bag.rate_hz is None else bag.rate_hz / as_asked
        factor = slowing(rate, self._recorder.latencies_s)
        if rate is not None and factor > 1.0:
            _log.info("the node cannot hold %.3g frames/s here: playing %.3g", rate, rate / factor)
        pace = Pace(rate=1 / (as_asked * factor), restamp=True, keep_spacing=True)

        def note(topic: str, bag_ns: int, stamp_ns: int) -> None:
            if topic == CAMERA.image_topic:
                self._played_ns.append(stamp_ns)
                self._show_progress(bar)
                bar.update()

        self._player(self._playlist, pace, note).play()

    def _wait_for_outputs(self, bar: tqdm) -> None:
        """Wait until the last frame's outputs are recorded, or nothing has come for a while."""
        sent = time.monotonic()
        while not self._recorder.has_all(self._played_ns[-1]):
            if time.monotonic() - max(sent, self._recorder.last_arrival) > _QUIET_S:
                break
            self._spin(_SPIN_S)
        self._show_progress(bar)

    def _show_progress(self, bar: tqdm) -> None:
        restored = len(self._recorder.restored_stamps.intersection(self._played_ns))
        bar.set_postfix(restored=restored, refresh=False)

    def _player(
        self,
        playlist: Playlist,
        pace: Pace,
        sent: Callable[[str, int, int], object] = lambda topic, bag_ns, stamp_ns: None,
    ) -> Player:
        return Player(self._own, playlist, pace, pause=self._spin, sent=sent)

    def _spin(self, seconds: float) -> None:
        """Receive for a while; RecordingError where the node has died."""
        self._listener.spin(seconds)
        self._group.check()
