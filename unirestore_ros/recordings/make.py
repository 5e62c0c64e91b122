"""`bag make INPUT OUT`: write a video or images as the bag that a camera would have recorded."""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Writer
from sensor_msgs.msg import CameraInfo
from tqdm import tqdm

from unirestore_ros.files import sync_folder
from unirestore_ros.msgs.camera_info import camera_info_beside
from unirestore_ros.recordings import RecordingError, images
from unirestore_ros.recordings.cameras import CLEAN
from unirestore_ros.recordings.fitting import encode_message, fitted_info, info_bytes
from unirestore_ros.recordings.images import Degrade, Size
from unirestore_ros.recordings.sources import Source, open_source
from unirestore_ros.recordings.storage import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, STORAGES
from unirestore_ros.recordings.writing import new_connection, new_writer

DEFAULT_TOPIC = "/camera/image_raw"
DEFAULT_RATE = 10.0

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("input", type=Path, metavar="INPUT", help="a video or a folder of images")
    add("out", type=Path, metavar="OUT", help="folder of the new bag")
    add("--size", type=size_of, metavar="WxH", help="scale, aspect kept, and crop at the centre")
    add("--topic", default=DEFAULT_TOPIC, help=f"of the images ({DEFAULT_TOPIC})")
    add("--frame-id", default="camera_optical_frame", help="(camera_optical_frame)")
    add("--rate", type=float, metavar="HZ", help=f"frames/s (a video's own; {DEFAULT_RATE:g})")
    add("--frames", type=int, default=0, metavar="N", help="the first N only; 0: all")
    add("--fov", type=float, metavar="DEGREES", help="the lens's horizontal view, for CameraInfo")
    add("--compressed", action="store_true", help="JPEG, on TOPIC/compressed")
    add("--jpeg-quality", type=int, default=95, choices=range(1, 101), metavar="1..100")
    add("--degrade", metavar="NAME", help=f"degrade: fog, rain, ...; the clean on {CLEAN}")
    add("--severity", type=int, choices=range(1, 6), default=3, help="of --degrade (3)")
    add("--start", type=float, metavar="SECONDS", help="stamp of the first frame (now)")
    add("--storage", choices=STORAGES, default="mcap", help="(mcap)")


def run(arguments: argparse.Namespace) -> int:
    source = open_source(arguments.input)
    out: Path = arguments.out.absolute()
    if out.exists():
        raise RecordingError(f"{out} exists: name another OUT")
    if arguments.rate is not None and arguments.rate <= 0:
        raise RecordingError(f"--rate {arguments.rate:g} is not over 0")
    if arguments.fov is not None and not 1 <= arguments.fov < 180:
        raise RecordingError(f"--fov {arguments.fov:g} is not from 1 to 180 degrees")
    start = time.time_ns() if arguments.start is None else round(arguments.start * 1e9)
    camera = NewCamera(
        topic=arguments.topic,
        frame_id=arguments.frame_id,
        fov=arguments.fov,
        jpeg_quality=arguments.jpeg_quality if arguments.compressed else None,
    )
    degrade = None
    if arguments.degrade:
        degrade = images.degradation(arguments.degrade, arguments.severity)
    _log.info("reading %s", source.description)
    frames = new_frames(
        source, arguments.size, degrade, rate=arguments.rate, limit=arguments.frames
    )
    count = len(make_bag(frames, out, camera, start, arguments.storage))
    if count == 0:
        raise RecordingError(f"{source.description}: there is no frame in it")
    print(f"{arguments.out}: {count} frames on {camera.image_topic}, {camera.info_topic}")
    return 0


class NewFrame(NamedTuple):
    """One frame of a new bag: (H, W, 3) uint8 BGR; ``clean`` is the same before degradation."""

    offset_ns: int
    """After the first frame."""
    image: np.ndarray
    clean: np.ndarray | None
    recorded: Size
    """(width, height) before it was fitted."""


class NewCamera(NamedTuple):
    """What the camera of a new bag sends."""

    topic: str
    frame_id: str
    fov: float | None = None
    """The lens's horizontal view in degrees; None: not calibrated."""
    jpeg_quality: int | None = None
    """None: raw."""

    @property
    def image_topic(self) -> str:
        return self.topic if self.jpeg_quality is None else f"{self.topic}/compressed"

    @property
    def clean_topic(self) -> str:
        clean = f"{self.topic.rpartition('/')[0]}/{CLEAN}"
        return clean if self.jpeg_quality is None else f"{clean}/compressed"

    @property
    def info_topic(self) -> str:
        return camera_info_beside(self.topic)

    def image(self, stamp: int, pixels: np.ndarray) -> bytes:
        """Serialise (H, W, 3) uint8 BGR."""
        header = (*divmod(stamp, 10**9), self.frame_id)
        return encode_message(header, pixels, self.jpeg_quality)

    def info(self, source: Size, target: Size) -> CameraInfo:
        """Make a pinhole of ``fov`` over the source's width; without it all zeros, which mean that
        the camera is not calibrated."""
        info = CameraInfo(width=source[0], height=source[1])
        info.header.frame_id = self.frame_id
        if self.fov is None:
            info.width, info.height = target
            return info
        focal = source[0] / 2 / math.tan(math.radians(self.fov) / 2)
        centre = (source[0] - 1) / 2, (source[1] - 1) / 2
        info.distortion_model, info.d = "plumb_bob", [0.0] * 5
        info.k = [focal, 0.0, centre[0], 0.0, focal, centre[1], 0.0, 0.0, 1.0]
        info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        info.p = [*info.k[:3], 0.0, *info.k[3:6], 0.0, *info.k[6:], 0.0]
        return fitted_info(info, source, target)


def new_frames(
    source: Source,
    size: Size | None,
    degrade: Degrade | None,
    *,
    rate: float | None = None,
    default_rate: float = DEFAULT_RATE,
    limit: int = 0,
) -> Iterator[NewFrame]:
    """Read at most ``limit`` frames (0: all), fitted to ``size`` and degraded as asked.

    Frames come at ``rate``, or, where it is None, at their own times; those without at
    ``default_rate``. A bag is read in the order of its times: one that does not come after the time
    before it is replaced by the next at the rate.
    """
    period = round(1e9 / (rate or default_rate))
    length = min(filter(None, (source.length, limit)), default=None)
    offset: int | None = None
    frames = itertools.islice(source.frames(), limit or None)
    for number, frame in enumerate(tqdm(frames, "reading", length, unit="frame")):
        recorded = frame.image.shape[1], frame.image.shape[0]
        if number == 0 and size is not None:
            _log.info("%s", images.describe_fit(recorded, size))
        at = None if rate is not None else frame.offset_ns
        if offset is None:
            offset = at or 0
        else:
            offset = at if at is not None and at > offset else offset + period
        image = images.fit_image(frame.image, size or recorded)
        if degrade is None:
            yield NewFrame(offset, image, None, recorded)
        else:
            yield NewFrame(offset, degrade(image, number), image, recorded)


def make_bag(
    frames: Iterable[NewFrame], out: Path, camera: NewCamera, start_ns: int, storage: str
) -> list[int]:
    """Write the bag beside ``out`` and rename it; returns the time of each frame, in nanoseconds.

    Where there is no frame, no bag is made. The first frame says whether all have a clean image.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as beside:
        inner = Path(beside) / out.name  # a bag's files are called after its folder
        with new_writer(inner, storage) as writer:
            times = _write(writer, frames, camera, start_ns)
        if times:
            sync_folder(inner)
            inner.rename(out)
    return times


def _write(
    writer: Writer, frames: Iterable[NewFrame], camera: NewCamera, start_ns: int
) -> list[int]:
    kind = IMAGE if camera.jpeg_quality is None else COMPRESSED_IMAGE
    infos = new_connection(writer, camera.info_topic, CAMERA_INFO)
    connection = new_connection(writer, camera.image_topic, kind)
    clean: Connection | None = None
    times: list[int] = []
    info: CameraInfo | None = None
    for frame in frames:
        size = frame.image.shape[1], frame.image.shape[0]
        if info is None:
            info = camera.info(frame.recorded, size)
            if frame.clean is not None:
                clean = new_connection(writer, camera.clean_topic, kind)
        elif (info.width, info.height) != size:
            raise RecordingError(
                f"frame {len(times)} is {size[0]}x{size[1]}, unlike the first: give --size"
            )
        stamp = start_ns + frame.offset_ns
        info.header.stamp.sec, info.header.stamp.nanosec = divmod(stamp, 10**9)
        # Before the image, as drivers do: restore_node uses the latest that it has.
        writer.write(infos, stamp, info_bytes(info))
        writer.write(connection, stamp, camera.image(stamp, frame.image))
        if clean is not None and frame.clean is not None:
            writer.write(clean, stamp, camera.image(stamp, frame.clean))
        times.append(stamp)
    return times


def size_of(text: str) -> Size:
    """Read (width, height) of `WxH`, for argparse."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None or not (16 <= int(match[1]) <= 16384 and 16 <= int(match[2]) <= 16384):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, as 480x360")
    return int(match[1]), int(match[2])
