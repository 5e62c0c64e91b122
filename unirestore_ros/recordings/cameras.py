"""Which topics of a bag are cameras, what they send, and how the node beside each is called."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence

from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader

from unirestore_ros.msgs.camera_frame import CameraFrame, read_frame
from unirestore_ros.msgs.camera_info import COMPRESSED, camera_info_beside, read_cameras
from unirestore_ros.msgs.cdr import MalformedMessage
from unirestore_ros.recordings.errors import MediaError
from unirestore_ros.recordings.scaling import Size
from unirestore_ros.recordings.storage import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE

CLEAN = "image_clean"
"""Last name of the topic on which `bag make --degrade` keeps the clean images."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Camera:
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


def find_cameras(
    reader: Reader, wanted: Sequence[str] = (), node: str = "unirestore"
) -> list[Camera]:
    """The bag's cameras in the order of its topics; of ``wanted`` topics only, where there are any.

    Left out, and said so: images that the network cannot read (depth, features), what a node called
    ``node`` has published, the compressed twin of a raw topic, and clean images. MediaError where
    none is left, or where one that is wanted cannot be used.
    """
    images = {c.topic: c for c in reader.connections if c.msgtype in (IMAGE, COMPRESSED_IMAGE)}
    if not images:
        raise MediaError(
            f"the bag {reader.path} has no topic of sensor_msgs/Image or CompressedImage"
        )
    for topic in wanted:
        if topic not in images:
            raise MediaError(
                f"the bag {reader.path} has no images on {topic}, but on {', '.join(images)}"
            )
    infos = {c.topic for c in reader.connections if c.msgtype == CAMERA_INFO}
    cameras = []
    for topic in wanted or images:
        why_not = None if wanted else _not_a_camera(topic, images, node)
        frame = None if why_not else first_frame(reader, images[topic])
        if frame is None or frame.unsupported:
            reason = why_not or (frame.unsupported if frame else "no image in it can be read")
            if wanted:
                raise MediaError(f"{topic} of the bag {reader.path}: {reason}")
            _log.info("%s is no camera: %s", topic, reason)
            continue
        cameras.append(_camera(images[topic], frame, infos))
    if not cameras:
        raise MediaError(f"the bag {reader.path} has no camera that can be restored")
    return cameras


def first_frame(reader: Reader, connection: Connection) -> CameraFrame | None:
    """The first sound image of a topic."""
    for _, _, data in reader.messages([connection]):
        try:
            return read_frame(data, connection.msgtype == COMPRESSED_IMAGE, 0.0, 0)
        except MalformedMessage:
            continue
    return None


def in_namespaces(cameras: Sequence[Camera], names: Mapping[str, str]) -> list[Camera]:
    """The same cameras with the namespaces of their nodes: as ``names`` says by topic; else none
    for a single camera, and for several the last folder of their topics, or the whole topic where
    that does not tell them apart."""
    named = [camera for camera in cameras if camera.base in names or camera.topic in names]
    if len(cameras) == 1 and not named:
        return list(cameras)
    short = [_folders(camera.base)[-1] for camera in cameras]
    unique = len(set(short)) == len(short)
    spaces = []
    for camera, name in zip(cameras, short, strict=True):
        said = names.get(camera.topic) or names.get(camera.base)
        spaces.append(said or (name if unique else "_".join(camera.base.strip("/").split("/"))))
    if len(set(spaces)) < len(spaces):
        raise MediaError(f"two cameras are called {spaces}: say --cameras NAME:TOPIC,...")
    return [
        dataclasses.replace(camera, namespace=f"/{space.strip('/')}")
        for camera, space in zip(cameras, spaces, strict=True)
    ]


def read_names(text: str) -> dict[str, str]:
    """Names by topic of `NAME:TOPIC,...`, as the launch file takes it; MediaError if it is not."""
    try:
        return {camera.image: camera.namespace for camera in read_cameras(text, "")}
    except ValueError as error:
        raise MediaError(str(error)) from error


def _not_a_camera(topic: str, images: Iterable[str], node: str) -> str | None:
    if node in topic.split("/"):
        return f"a node {node} has published it"
    if topic.removesuffix(COMPRESSED).endswith(f"/{CLEAN}"):
        return "it holds what the camera would have seen"
    if topic.endswith(COMPRESSED) and topic.removesuffix(COMPRESSED) in images:
        return "the bag has the same images raw"
    return None


def _camera(connection: Connection, frame: CameraFrame, infos: set[str]) -> Camera:
    info = camera_info_beside(connection.topic)
    return Camera(
        topic=connection.topic,
        compressed=connection.msgtype == COMPRESSED_IMAGE,
        size=(frame.width, frame.height),
        messages=connection.msgcount,
        info_topic=info if info in infos else None,
    )


def _folders(topic: str) -> list[str]:
    """`/camera/front/image_raw` -> `camera`, `front`; a topic without folders is its own."""
    parts = topic.strip("/").split("/")
    return parts[:-1] or parts
