"""Find the cameras among a bag's topics, and name the node that restores each."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence

from rosbags.interfaces import Connection

from unirestore_ros.msgs.camera_frame import CameraFrame, CameraTraits, read_frame
from unirestore_ros.msgs.camera_info import COMPRESSED, camera_info_beside, read_cameras
from unirestore_ros.msgs.cdr import MalformedMessage
from unirestore_ros.msgs.encodings import ASSUMABLE
from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.headers import read_header
from unirestore_ros.recordings.images import Size
from unirestore_ros.recordings.storage import CAMERA_INFO, COMPRESSED_IMAGE, Reader, image_topics

CLEAN = "image_clean"
"""Last name of the topic on which `bag make --degrade` keeps the clean images."""

_STAMPS_COMPARED = 5

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class BagCamera:
    """A topic of images in a bag."""

    topic: str
    compressed: bool
    size: Size
    """(width, height) of its first image."""
    messages: int
    info_topic: str | None
    """Its CameraInfo, where the bag has it."""
    namespace: str = ""
    """Where its node's topics are: empty, or `/NAME`."""

    @property
    def base(self) -> str:
        """The topic without `/compressed`."""
        return self.topic.removesuffix(COMPRESSED) if self.compressed else self.topic


def add_assume_encoding(parser: argparse.ArgumentParser) -> None:
    """Add the option that says what the node's parameter of that name does."""
    parser.add_argument(
        "--assume-encoding",
        choices=ASSUMABLE,
        default="",
        metavar="ENCODING",
        help="what 8UC1, 8UC3, 8UC4 and an empty encoding mean",
    )


def find_cameras(
    reader: Reader,
    wanted: Sequence[str] = (),
    node: str = "unirestore",
    assume_encoding: str = "",
) -> list[BagCamera]:
    """Find the bag's cameras, in the order of its topics; only ``wanted`` ones, where given.

    Images that the network cannot read (depth, features), what a node called ``node`` has
    published, the compressed twin of a raw topic, and clean images are left out, with a line in the
    log. ``assume_encoding`` is as the node's parameter. RecordingError where none is left, or where
    one that is wanted cannot be used.
    """
    images = {topic: each[0] for topic, each in image_topics(reader).items()}
    chosen = image_topics(reader, wanted)
    infos = {c.topic for c in reader.connections if c.msgtype == CAMERA_INFO}
    cameras = []
    left_out: dict[str, str] = {}
    for topic in chosen:
        why_not = None if wanted else _not_a_camera(topic, images, node)
        frame = None if why_not else first_frame(reader, images[topic], assume_encoding)
        if frame is None or frame.unsupported:
            reason = why_not or (frame and frame.unsupported) or "no image in it can be read"
            if wanted:
                raise RecordingError(f"{topic} of the bag {reader.path}: {reason}")
            _log.info("%s is no camera: %s", topic, reason)
            left_out[topic] = reason
            continue
        cameras.append(_camera(images[topic], frame, infos))
    if not cameras:
        reasons = "; ".join(f"{topic}: {why}" for topic, why in left_out.items())
        raise RecordingError(
            f"the bag {reader.path} has no camera that can be restored ({reasons})"
        )
    return cameras


def first_frame(
    reader: Reader, connection: Connection, assume_encoding: str = ""
) -> CameraFrame | None:
    """Read the first well-formed image of a topic; None where there is none."""
    for _, _, data in reader.messages([connection]):
        try:
            camera = CameraTraits(assume_encoding)
            return read_frame(data, connection.msgtype == COMPRESSED_IMAGE, 0.0, 0, camera)
        except MalformedMessage:
            continue
    return None


def tell_frames_apart(reader: Reader, topic: str) -> bool:
    """Return whether a topic's stamps tell its frames apart, by the first few: False where they are
    zero or all alike."""
    connections = [c for c in reader.connections if c.topic == topic]
    stamps = []
    for _, _, data in itertools.islice(reader.messages(connections), _STAMPS_COMPARED):
        header = read_header(data)
        stamps += [] if header is None else [header.stamp_ns]
    return any(stamps) and (len(stamps) == 1 or len(set(stamps)) > 1)


def in_namespaces(cameras: Sequence[BagCamera], names: Mapping[str, str]) -> list[BagCamera]:
    """Give cameras the namespaces of their nodes: as ``names`` says by topic; else none for a
    single camera, and for several the last folder of their topics, or the whole topic where that
    does not tell them apart."""
    named = [camera for camera in cameras if camera.base in names or camera.topic in names]
    if len(cameras) == 1 and not named:
        return list(cameras)
    short = [_folders(camera.base)[-1] for camera in cameras]
    unique = len(set(short)) == len(short)
    spaces = []
    for camera, name in zip(cameras, short, strict=True):
        given = names.get(camera.topic) or names.get(camera.base)
        spaces.append(given or (name if unique else "_".join(camera.base.strip("/").split("/"))))
    if len(set(spaces)) < len(spaces):
        raise RecordingError(f"two cameras are called {spaces}: give --cameras NAME:TOPIC,...")
    return [
        dataclasses.replace(camera, namespace=f"/{space.strip('/')}")
        for camera, space in zip(cameras, spaces, strict=True)
    ]


def read_names(text: str) -> dict[str, str]:
    """Read `NAME:TOPIC,...`, as the launch file takes it: names by topic; RecordingError if it is
    not that."""
    try:
        return {camera.image: camera.namespace for camera in read_cameras(text, "")}
    except ValueError as error:
        raise RecordingError(str(error)) from error


def _not_a_camera(topic: str, images: Iterable[str], node: str) -> str | None:
    if node in topic.split("/"):
        return f"a node {node} has published it"
    if topic.removesuffix(COMPRESSED).endswith(f"/{CLEAN}"):
        return "it holds what the camera would have seen"
    if topic.endswith(COMPRESSED) and topic.removesuffix(COMPRESSED) in images:
        return "the bag has the same images raw"
    return None


def _camera(connection: Connection, frame: CameraFrame, infos: set[str]) -> BagCamera:
    info = camera_info_beside(connection.topic)
    return BagCamera(
        topic=connection.topic,
        compressed=connection.msgtype == COMPRESSED_IMAGE,
        size=(frame.width, frame.height),
        messages=connection.msgcount,
        info_topic=info if info in infos else None,
    )


def _folders(topic: str) -> list[str]:
    """Name a topic's folders: `/camera/front/image_raw` has `camera`, `front`; `/image` itself."""
    parts = topic.strip("/").split("/")
    return parts[:-1] or parts
