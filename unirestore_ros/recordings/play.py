"""`bag play BAG`: publish its messages when they are due, as they were recorded or fitted.

The node is called bag_player; `--ros-args -r FROM:=TO` renames topics.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Connection, Qos
from rosgraph_msgs.msg import Clock

from unirestore_ros.node.process import ros_node
from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.arrivals import message_class
from unirestore_ros.recordings.cameras import add_assume_encoding
from unirestore_ros.recordings.fitting import Fitter, fault_of
from unirestore_ros.recordings.headers import has_header, read_header, with_stamp
from unirestore_ros.recordings.images import Size
from unirestore_ros.recordings.make import size_of
from unirestore_ros.recordings.storage import Reader, open_reader, qos_of
from unirestore_ros.tables import text_table

_LOOK_EVERY_S = 0.05
_CLOCK_HZ = 100.0
_ACKNOWLEDGE_LIMIT_S = 5.0
_DEFAULT_DEPTH = 10
# A stamp farther than that from the time of recording is of another clock.
_OTHER_CLOCK_NS = 10 * 10**9
# Stamps without any order would each be a clock.
_MOST_CLOCKS = 64
_LONG_PAUSE_S = 60.0

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bag", type=Path, metavar="BAG", help="folder of a rosbag2, or one of its files")
    add("--rate", type=_factor, default=1.0, metavar="X", help="times as fast as recorded (1)")
    add("--loop", action="store_true", help="from the beginning again, until interrupted")
    add("--topics", nargs="+", metavar="TOPIC", help="these only")
    add("--start", type=float, default=0.0, metavar="SECONDS", help="leave out the beginning")
    add("--duration", type=float, metavar="SECONDS", help="of the bag's time; then end")
    add(
        "--clock",
        type=float,
        nargs="?",
        const=_CLOCK_HZ,
        metavar="HZ",
        help=f"publish /clock ({_CLOCK_HZ:g} a second), for nodes with use_sim_time",
    )
    add(
        "--restamp",
        action="store_true",
        help="shift the stamps of headers to the present; equal ones stay equal",
    )
    add("--size", type=size_of, metavar="WxH", help="scale and crop the cameras to it")
    add_assume_encoding(parser)
    add("--wait-for", nargs="+", default=[], metavar="TOPIC", help="begin once they are subscribed")
    add("--wait-limit", type=float, default=60.0, metavar="SECONDS", help="... or after that (60)")


def run(arguments: argparse.Namespace) -> int:
    with (
        open_reader(arguments.bag) as reader,
        ros_node("bag_player", arguments=arguments.ros_arguments) as (node, stopped),
    ):
        playlist = make_playlist(
            reader,
            node,
            topics=arguments.topics,
            start_s=arguments.start,
            duration_s=arguments.duration,
            with_clock=not arguments.clock,
        )
        pace = Pace(arguments.rate, arguments.restamp, arguments.clock, arguments.loop)
        size: Size | None = arguments.size
        fitter = None
        if size is not None:
            fitter = Fitter(reader, size, playlist.topics, arguments.assume_encoding)
        player = Player(node, playlist, pace, fitter)
        wait_for_listeners(node, arguments.wait_for, arguments.wait_limit, player.hold, stopped)
        player.play(stopped)
        print(player.table())
    return 0


class Pace(NamedTuple):
    """When and with which stamps messages go out."""

    rate: float = 1.0
    restamp: bool = False
    clock_hz: float | None = None
    loop: bool = False
    keep_spacing: bool = False
    """Where a message is late, all that follow are as late, rather than sent at once."""


class Playlist(NamedTuple):
    """What of a bag is played, between two of its times in nanoseconds."""

    reader: Reader
    publishers: dict[int, Publisher]
    """By the connection's number."""
    stamped: frozenset[int]
    first_ns: int
    end_ns: int

    @property
    def topics(self) -> set[str]:
        return {c.topic for c in self.reader.connections if c.id in self.publishers}

    def messages(self) -> Iterator[tuple[Connection, int, bytes]]:
        wanted = [c for c in self.reader.connections if c.id in self.publishers]
        yield from self.reader.messages(wanted, self.first_ns, self.end_ns)


class CameraClocks:
    """Says how far the clocks that stamped a bag's topics are behind the recorder's.

    Stamps of one clock keep their differences, so that a camera's image and CameraInfo stay equal.
    """

    def __init__(self) -> None:
        self._known = [0]
        self._of_topic: dict[str, int] = {}

    def lag_ns(self, topic: str, stamp_ns: int, recorded_ns: int) -> int:
        """Return what is to be added to a stamp to bring it to the recorder's clock."""
        lag = recorded_ns - stamp_ns
        mine = self._of_topic.get(topic)
        if mine is None or abs(lag - mine) > _OTHER_CLOCK_NS:
            # A clock that another topic has, or one that has not been seen, or has been set.
            near = min(self._known, key=lambda known: abs(lag - known))
            mine = near if abs(lag - near) <= _OTHER_CLOCK_NS else lag
            self._of_topic[topic] = mine
            if mine not in self._known:
                self._known.append(mine)
                del self._known[1:-_MOST_CLOCKS]
        return mine


class Player:
    """Publishes a playlist; what is late goes out at once, unless the pace says otherwise.

    Where they are given, ``pause`` is what is called to let seconds pass, and ``sent`` is called
    with each message's topic, its time in the bag, and the present time that it was due, both in
    nanoseconds.
    """

    def __init__(
        self,
        node: Node,
        playlist: Playlist,
        pace: Pace,
        fitter: Fitter | None = None,
        pause: Callable[[float], object] = time.sleep,
        sent: Callable[[str, int, int], object] = lambda topic, bag_ns, due_ns: None,
    ) -> None:
        self._playlist = playlist
        self._pace = pace
        self._fitter = fitter
        self._pause = pause
        self._sent = sent
        self._clock = None if pace.clock_hz is None else node.create_publisher(Clock, "/clock", 1)
        self._next_tick = 0.0
        self._start = 0
        self._clocks = CameraClocks()
        self._skipped: Counter[tuple[str, str]] = Counter()
        self._counts: dict[str, int] = {}
        self._seconds = 0.0
        self._latest = 0.0

    def play(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Play from beginning to end, once or until stopped."""
        begun = time.monotonic()
        while True:
            self._start = time.time_ns()
            before: int | None = None
            self._skipped.clear()
            for connection, when, data in self._playlist.messages():
                # Messages of one time, as an image and its CameraInfo, go out together.
                if when != before and not self._wait_until(when, stopped):
                    return
                before = when
                self._publish(connection, when, data)
                self._seconds = time.monotonic() - begun
            self._say_skipped()
            if not self._pace.loop or not self._counts:
                break
        for publisher in self._playlist.publishers.values():
            publisher.wait_for_all_acked(Duration(seconds=_ACKNOWLEDGE_LIMIT_S))

    def table(self) -> str:
        """Write out for the user what was published."""
        seconds = max(self._seconds, 1e-9)
        rows = [[topic, n, f"{n / seconds:.2f}"] for topic, n in self._counts.items()]
        late = f"at most {self._latest * 1e3:.0f} ms late"
        return f"{text_table(('topic', 'messages', 'Hz'), rows)}\n{late}"

    def _present(self, bag_ns: int) -> int:
        """Return the system clock's time, in nanoseconds, at which a time of the bag is due."""
        return self._start + round((bag_ns - self._playlist.first_ns) / self._pace.rate)

    def _wait_until(self, bag_ns: int, stopped: Callable[[], bool]) -> bool:
        """Wait until a time of the bag is due; False where it was asked to stop."""
        due = self._present(bag_ns)
        if (pause := (due - time.time_ns()) * 1e-9) > _LONG_PAUSE_S:
            _log.info("the next message is due in %.0f s", pause)
        while not stopped() and (left := (due - time.time_ns()) * 1e-9) > 0:
            tick = self._tick()
            self._pause(min(left, _LOOK_EVERY_S, tick))
        late = time.time_ns() - due
        self._latest = max(self._latest, late * 1e-9)
        if self._pace.keep_spacing:
            self._start += max(0, late)
        return not stopped()

    def hold(self) -> None:
        """Publish /clock at the beginning, so that no node gets the first frame without a time."""
        self._start = time.time_ns()
        self._tick()

    def _tick(self) -> float:
        """Publish /clock where it is due; returns seconds until it is again."""
        if self._clock is None or self._pace.clock_hz is None:
            return _LOOK_EVERY_S
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + 1 / self._pace.clock_hz
            passed = (time.time_ns() - self._start) * self._pace.rate
            message = Clock()
            when = self._playlist.first_ns + round(passed)
            message.clock.sec, message.clock.nanosec = divmod(when, 10**9)
            self._clock.publish(message)
        return max(0.0, self._next_tick - now)

    def _publish(self, connection: Connection, when: int, data: bytes) -> None:
        if (fault := fault_of(connection.msgtype, data)) is not None:
            self._skipped[connection.topic, fault] += 1
            return
        if self._fitter is not None:
            fitted = self._fitter.fit(connection.topic, data)
            if fitted is None:
                return
            data = fitted
        if self._pace.restamp and connection.id in self._playlist.stamped:
            data = self._restamped(connection.topic, data, when)
        self._playlist.publishers[connection.id].publish(data)
        self._counts[connection.topic] = self._counts.get(connection.topic, 0) + 1
        self._sent(connection.topic, when, self._present(when))

    def _restamped(self, topic: str, data: bytes, when: int) -> bytes:
        header = read_header(data)
        if header is None:
            return data
        stamp = header.stamp_ns or when
        return with_stamp(data, self._present(stamp + self._clocks.lag_ns(topic, stamp, when)))

    def _say_skipped(self) -> None:
        for (topic, fault), count in self._skipped.items():
            _log.warning("%d messages of %s are damaged, not played: %s", count, topic, fault)


def wait_for_listeners(
    node: Node,
    topics: list[str],
    limit_s: float,
    hold: Callable[[], object],
    stopped: Callable[[], bool],
) -> None:
    """Wait until each topic has a subscriber, calling ``hold`` now and then; say which have none
    when the time is over."""
    deadline = time.monotonic() + limit_s
    while not stopped():
        hold()
        missing = [topic for topic in topics if node.count_subscribers(topic) == 0]
        if not missing:
            return
        if time.monotonic() > deadline:
            _log.warning("nobody subscribes to %s: playing nevertheless", ", ".join(missing))
            return
        time.sleep(_LOOK_EVERY_S)


def make_playlist(
    reader: Reader,
    node: Node,
    *,
    topics: Sequence[str] | None = None,
    start_s: float = 0.0,
    duration_s: float | None = None,
    with_clock: bool = True,
) -> Playlist:
    """Make publishers for the topics of a bag, all where ``topics`` is None; RecordingError where
    nothing of it can be played."""
    present = {connection.topic for connection in reader.connections}
    wanted = set(topics or present)
    if unknown := wanted - present:
        raise RecordingError(
            f"the bag {reader.path} has no {', '.join(sorted(unknown))},"
            f" but {', '.join(sorted(present))}"
        )
    publishers: dict[int, Publisher] = {}
    for connection in reader.connections:
        if connection.topic not in wanted or (connection.topic == "/clock" and not with_clock):
            continue
        kind = message_class(connection.msgtype)
        if kind is None:
            _log.warning(
                "%s is not played: %s is not installed here", connection.topic, connection.msgtype
            )
            continue
        qos = qos_profile(qos_of(connection))
        publishers[connection.id] = node.create_publisher(kind, connection.topic, qos)
    if not publishers:
        raise RecordingError(f"the bag {reader.path} has nothing that can be played here")
    first = reader.start_time + round(start_s * 1e9)
    end = reader.end_time
    if duration_s is not None:
        end = min(end, first + round(duration_s * 1e9))
    if not reader.message_count:
        raise RecordingError(f"the bag {reader.path} has no messages")
    if first >= end:
        raise RecordingError(f"--start {start_s:g} is after the end of the bag {reader.path}")
    stamped = frozenset(c.id for c in reader.connections if has_header(c))
    return Playlist(reader, publishers, stamped, first, end)


def qos_profile(recorded: list[Qos]) -> QoSProfile:
    """Offer what the publisher offered when it was recorded; the first of several."""
    if not recorded:
        return QoSProfile(depth=_DEFAULT_DEPTH)
    qos = recorded[0]
    best_effort = qos.reliability.name == "BEST_EFFORT"
    kept = qos.durability.name == "TRANSIENT_LOCAL"
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=max(qos.depth, 1) if qos.history.name == "KEEP_LAST" else _DEFAULT_DEPTH,
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if kept else DurabilityPolicy.VOLATILE,
    )


def _factor(text: str) -> float:
    value = float(text)
    if not 0.001 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is not from 0.001 to 1000")
    return value
