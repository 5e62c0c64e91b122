"""How cameras are named on a command line: the topics of each, and the namespace of its node."""

from __future__ import annotations

from typing import NamedTuple

COMPRESSED = "/compressed"


class Camera(NamedTuple):
    """A camera's topics and the namespace of the node that restores it."""

    namespace: str
    image: str
    camera_info: str


def camera_info_beside(image: str) -> str:
    """Where a camera's driver publishes it: `/front/image_raw` -> `/front/camera_info`."""
    folder, slash, _ = image.removesuffix(COMPRESSED).rpartition("/")
    return f"{folder}{slash}camera_info"


def read_cameras(text: str, namespace: str) -> list[Camera]:
    """Cameras of `NAME:IMAGE[:CAMERA_INFO],...`; ValueError where that is not what it is."""
    cameras = []
    for entry in text.split(","):
        fields = [field.strip() for field in entry.split(":")]
        if len(fields) not in (2, 3) or not all(fields):
            raise ValueError(f"cameras: {entry!r} is not NAME:IMAGE_TOPIC[:CAMERA_INFO_TOPIC]")
        name, image, *rest = fields
        inside = f"{namespace.rstrip('/')}/{name}" if namespace else name
        cameras.append(Camera(inside, image, rest[0] if rest else camera_info_beside(image)))
    if len({camera.namespace for camera in cameras}) < len(cameras):
        raise ValueError(f"cameras: a name stands twice in {text!r}")
    return cameras
