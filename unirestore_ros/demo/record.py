"""Record what the node publishes into a bag, and join it by stamp with what was played."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rosbags.rosbag2 import Writer

from unirestore_ros.demo.drive import CAMERA, NAMESPACE, DriveBag
from unirestore_ros.msgs.cdr import view_image
from unirestore_ros.recordings.arrivals import Arrival
from unirestore_ros.recordings.fitting import decode_features, decode_message
from unirestore_ros.recordings.storage import IMAGE, Reader, message_at, open_reader
from unirestore_ros.recordings.writing import new_connection

NODE_NAME = "unirestore"
RESTORER = f"{NAMESPACE}/{NODE_NAME}"
RESTORED_IMAGE = f"{RESTORER}/image"
STATUS = f"{RESTORER}/status"
DIAGNOSTICS = "/diagnostics"
# What the node's status says of a frame's mode.
RESTORED_MODE, CAMERA_MODE = "restored", "camera"


def features_topic(task: str) -> str:
    return f"{RESTORER}/{task}/features"


class ShownFrame(NamedTuple):
    """One image that the node published for the driver; times in nanoseconds."""

    number: int
    """Number of the frame that was played."""
    stamp_ns: int
    received_ns: int
    mode: str
    """``restored`` or ``camera``, as the node's status says."""
    age_ms: float | None

    @property
    def latency_ms(self) -> float:
        """From the camera's publication to the recorder's receipt."""
        return (self.received_ns - self.stamp_ns) / 1e6


class FeatureMap(NamedTuple):
    """One feature map that the node published; where it is kept, the recorded bag has it."""

    number: int
    """Number of the frame that was played."""
    received_ns: int
    encoding: str
    height: int
    width: int
    is_kept: bool


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished play. Messages with stamps that were not played are left out."""

    played_ns: tuple[int, ...]
    """The stamp of each frame that was played."""
    shown: tuple[ShownFrame, ...]
    features: Mapping[str, Sequence[FeatureMap]]
    """By task; a task without messages is absent."""
    diagnostics: Mapping[str, str]
    """The values of the node's last diagnostics."""
    verdict: str | None
    """The node's last diagnostics message of the play."""

    @property
    def restored(self) -> list[ShownFrame]:
        return [shown for shown in self.shown if shown.mode == RESTORED_MODE]


class Recorder:
    """Writes every image and some of the feature maps into a bag, and notes all that arrives.

    The feature maps that are kept are of one frame in ``feature_period_ns``.
    """

    def __init__(self, writer: Writer, tasks: Sequence[str], feature_period_ns: int) -> None:
        self._writer = writer
        self._period_ns = feature_period_ns
        self._images = new_connection(writer, RESTORED_IMAGE, IMAGE)
        self._maps = {
            features_topic(task): new_connection(writer, features_topic(task), IMAGE)
            for task in tasks
        }
        self._tasks = {features_topic(task): task for task in tasks}
        self._received: dict[int, int] = {}
        self._status: dict[int, dict[str, str]] = {}
        self._features: dict[str, dict[int, FeatureMap]] = {task: {} for task in tasks}
        self._said: list[tuple[int, str]] = []
        self._diagnostics: dict[str, str] = {}
        self.restored_stamps: set[int] = set()
        """Stamps of the frames whose status says that they are restored."""
        self.latencies_s: list[float] = []
        """How long the node took for each of those, in their order."""
        self.last_arrival = 0.0
        """Seconds of the steady clock at which something came of a frame."""

    @property
    def topics(self) -> list[str]:
        return [RESTORED_IMAGE, STATUS, DIAGNOSTICS, *self._maps]

    def receive(self, arrival: Arrival) -> None:
        """Take in one message; it is in the bag when this returns."""
        received = time.time_ns()
        if arrival.topic == DIAGNOSTICS:
            self._note_diagnostics(arrival, received)
            return
        if arrival.header is None:
            return
        stamp = arrival.header.stamp_ns
        self.last_arrival = time.monotonic()
        if arrival.topic == RESTORED_IMAGE:
            self._writer.write(self._images, received, arrival.data)
            self._received[stamp] = received
        elif arrival.topic == STATUS:
            self._note_status(arrival, stamp)
        else:
            self._note_features(arrival, stamp, received)

    def has_all(self, stamp_ns: int) -> bool:
        """Return whether image and features of a frame have come."""
        maps = self._features.values()
        return stamp_ns in self._received and all(stamp_ns in each for each in maps)

    def record(self, played_ns: Sequence[int]) -> Record:
        """Join what came with the stamps that were played, in the order of their frames."""
        index_of = {stamp: index for index, stamp in enumerate(played_ns)}
        last = max(played_ns, default=0)
        # After the play the camera has gone, and the node says so: that is left out.
        during = [message for received, message in self._said if received <= last]
        return Record(
            played_ns=tuple(played_ns),
            shown=tuple(
                self._shown(index_of[stamp], stamp, received)
                for stamp, received in self._received.items()
                if stamp in index_of
            ),
            features={
                task: tuple(
                    each._replace(number=index_of[stamp])
                    for stamp, each in maps.items()
                    if stamp in index_of
                )
                for task, maps in self._features.items()
                if index_of.keys() & maps.keys()
            },
            diagnostics=dict(self._diagnostics),
            verdict=during[-1] if during else None,
        )

    def _note_status(self, arrival: Arrival, stamp: int) -> None:
        for _, _, values in arrival.statuses():
            self._status[stamp] = values
            if values.get("mode") == RESTORED_MODE:
                self.restored_stamps.add(stamp)
                self.latencies_s.append(float(values["latency_ms"]) / 1e3)

    def _note_features(self, arrival: Arrival, stamp: int, received: int) -> None:
        maps = self._features[self._tasks[arrival.topic]]
        image = view_image(arrival.data)
        # By the stamp's period, so that the maps kept are of the same frames for all tasks.
        before = next(reversed(maps), 0) // self._period_ns
        is_kept = stamp // self._period_ns != before
        maps[stamp] = FeatureMap(-1, received, image.encoding, image.height, image.width, is_kept)
        if is_kept:
            self._writer.write(self._maps[arrival.topic], received, arrival.data)

    def _note_diagnostics(self, arrival: Arrival, received: int) -> None:
        for name, message, values in arrival.statuses():
            if name == RESTORER:  # other nodes of the network report there too
                self._said.append((received, message))
                self._diagnostics.update(values)

    def _shown(self, index: int, stamp: int, received: int) -> ShownFrame:
        values = self._status.get(stamp, {})
        age = None
        with contextlib.suppress(KeyError, ValueError):  # the node may not know it
            age = float(values["age_ms"])
        return ShownFrame(index, stamp, received, values.get("mode", CAMERA_MODE), age)


class Frames:
    """Reads the frames that were played and what came out, one at a time.

    Images are (H, W, 3) uint8 BGR.
    """

    def __init__(self, bag: DriveBag, played: Reader, recorded: Reader) -> None:
        self.bag = bag
        self._played = played
        self._recorded = recorded

    def camera(self, index: int) -> np.ndarray:
        """Read what the camera sent."""
        return self._read_played(CAMERA.image_topic, index)

    def clean(self, index: int) -> np.ndarray:
        """Read the frame before it was degraded, where the bag has it."""
        return self._read_played(CAMERA.clean_topic, index)

    def shown(self, frame: ShownFrame) -> np.ndarray:
        """Read what the node published for the driver."""
        return decode_message(message_at(self._recorded, RESTORED_IMAGE, frame.received_ns), False)

    def features(self, task: str, kept: FeatureMap) -> np.ndarray:
        """Read a feature map that was kept, (h, w, c) float32."""
        return decode_features(message_at(self._recorded, features_topic(task), kept.received_ns))

    def _read_played(self, topic: str, index: int) -> np.ndarray:
        return decode_message(message_at(self._played, topic, self.bag.times_ns[index]), False)


@contextlib.contextmanager
def open_frames(bag: DriveBag, recorded: Path) -> Iterator[Frames]:
    with open_reader(bag.folder) as played, open_reader(recorded) as outputs:
        yield Frames(bag, played, outputs)
