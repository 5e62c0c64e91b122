"""`bag make INPUT OUT`: a video or images as the bag that their camera would have recorded."""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import re
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Writer
from sensor_msgs.msg import CameraInfo
from tqdm import tqdm

from unirestore_ros.files import sync_folder
from unirestore_ros.msgs.camera_info import camera_info_beside
from unirestore_ros.msgs.cdr import new_compressed, new_image
from unirestore_ros.msgs.compressed import encode_jpeg, jpeg_format
from unirestore_ros.recordings import scaling
from unirestore_ros.recordings.cameras import CLEAN
from unirestore_ros.recordings.degradation import Degrade, degradation
from unirestore_ros.recordings.errors import MediaError
from unirestore_ros.recordings.fitting import fitted_info, info_bytes
from unirestore_ros.recordings.scaling import Size
from unirestore_ros.recordings.sources import Source, SourceFrame, open_source
from unirestore_ros.recordings.storage import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    STORAGES,
    new_connection,
    new_writer,
)

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
        raise MediaError(f"{out} exists: name another OUT")
    if arguments.rate is not None and arguments.rate <= 0:
        raise MediaError(f"--rate {arguments.rate:g} is not over 0")
    if arguments.fov is not None and not 1 <= arguments.fov < 180:
        raise MediaError(f"--fov {arguments.fov:g} is not from 1 to 180 degrees")
    start = time.time_ns() if arguments.start is None else round(arguments.start * 1e9)
    maker = Maker(
        topic=arguments.topic,
        frame_id=arguments.frame_id,
        size=arguments.size,
        fov=arguments.fov,
        jpeg_quality=arguments.jpeg_quality if arguments.compressed else None,
        degrade=degradation(arguments.degrade, arguments.severity) if arguments.degrade else None,
    )
    _log.info("reading %s", source.description)
    count = make_bag(source, out, maker, start, arguments.rate, arguments.frames, arguments.storage)
    print(f"{arguments.out}: {count} frames on {maker.image_topic}, {maker.info_topic}")
    return 0


class Maker(NamedTuple):
    """What the camera of a new bag sends."""

    topic: str
    frame_id: str
    size: Size | None = None
    fov: float | None = None
    jpeg_quality: int | None = None
    """None: raw."""
    degrade: Degrade | None = None

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
        """(H, W, 3) uint8 BGR as a serialised message."""
        header = (*divmod(stamp, 10**9), self.frame_id)
        if self.jpeg_quality is not None:
            content = encode_jpeg(pixels, self.jpeg_quality)
            return new_compressed(*header, jpeg_format("bgr8"), content).tobytes()
        height, width = pixels.shape[:2]
        message, data = new_image(*header, height, width, "bgr8", width * 3)
        data[:] = pixels.reshape(-1)
        return message.tobytes()

    def info(self, source: Size, target: Size) -> CameraInfo:
        """A pinhole of ``fov`` over the source's width; all zeros, which say that the camera is not
        calibrated, without it."""
        info = CameraInfo(width=source[0], height=source[1])
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


def make_bag(
    source: Source,
    out: Path,
    maker: Maker,
    start_ns: int,
    rate: float | None,
    limit: int,
    storage: str,
) -> int:
    """Write the bag beside ``out`` and rename it; returns how many frames it has."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as beside:
        inner = Path(beside) / out.name  # a bag's files are called after its folder
        with new_writer(inner, storage) as writer:
            count = _write(writer, source, maker, start_ns, rate, limit)
        if count == 0:
            raise MediaError(f"{source.description}: there is no frame in it")
        sync_folder(inner)
        inner.rename(out)
    return count


def _write(
    writer: Writer, source: Source, maker: Maker, start_ns: int, rate: float | None, limit: int
) -> int:
    images = new_connection(
        writer, maker.image_topic, IMAGE if maker.jpeg_quality is None else COMPRESSED_IMAGE
    )
    infos = new_connection(writer, maker.info_topic, CAMERA_INFO)
    clean: Connection | None = None
    if maker.degrade is not None:
        clean = new_connection(writer, maker.clean_topic, images.msgtype)
    length = min(filter(None, (source.length, limit)), default=None)
    count = 0
    info: CameraInfo | None = None
    for frame in tqdm(itertools.islice(source.frames(), limit or None), "writing", length):
        size = frame.image.shape[1], frame.image.shape[0]
        target = maker.size or size
        if info is None:
            if maker.size is not None:
                _log.info("%s", scaling.description(size, target, "the size asked for"))
            info = maker.info(size, target)
        elif (info.width, info.height) != target:
            raise MediaError(f"frame {count} is {size[0]}x{size[1]}, unlike the first: say --size")
        stamp = start_ns + _offset(frame, count, rate)
        picture = scaling.fit(frame.image, target)
        if clean is not None and maker.degrade is not None:
            writer.write(clean, stamp, maker.image(stamp, picture))
            picture = _degraded(picture, maker.degrade, count)
        writer.write(images, stamp, maker.image(stamp, picture))
        info.header.stamp.sec, info.header.stamp.nanosec = divmod(stamp, 10**9)
        info.header.frame_id = maker.frame_id
        writer.write(infos, stamp, info_bytes(info))
        count += 1
    return count


def _degraded(picture: np.ndarray, degrade: Degrade, number: int) -> np.ndarray:
    rgb = np.ascontiguousarray(picture[:, :, ::-1])
    return np.ascontiguousarray(degrade(rgb, number)[:, :, ::-1])


def _offset(frame: SourceFrame, number: int, rate: float | None) -> int:
    """Nanoseconds after the first frame: as recorded, unless a rate is said or needed."""
    if rate is None and frame.offset_ns is not None:
        return frame.offset_ns
    return round(number * 1e9 / (rate or DEFAULT_RATE))


def size_of(text: str) -> Size:
    """(width, height) of `WxH`, for argparse."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None or not (16 <= int(match[1]) <= 16384 and 16 <= int(match[2]) <= 16384):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, as 480x360")
    return int(match[1]), int(match[2])
