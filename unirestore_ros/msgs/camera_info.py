"""A camera's topics, and its CameraInfo for images made from its own: the same view, resized."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

COMPRESSED = "/compressed"


class CameraTopics(NamedTuple):
    """A camera's topics and the namespace of the node that restores it."""

    namespace: str
    image: str
    camera_info: str


def camera_info_beside(image: str) -> str:
    """The topic on which a camera's driver publishes CameraInfo: `/front/image_raw` ->
    `/front/camera_info`."""
    folder, slash, _ = image.removesuffix(COMPRESSED).rpartition("/")
    return f"{folder}{slash}camera_info"


def read_cameras(text: str, namespace: str) -> list[CameraTopics]:
    """Read `NAME:IMAGE[:CAMERA_INFO],...`, as it is written on a command line; ValueError where it
    is wrong."""
    cameras = []
    for entry in text.split(","):
        fields = [field.strip() for field in entry.split(":")]
        if len(fields) not in (2, 3) or not all(fields):
            raise ValueError(f"cameras: {entry!r} is not NAME:IMAGE_TOPIC[:CAMERA_INFO_TOPIC]")
        name, image, *rest = fields
        inside = f"{namespace.rstrip('/')}/{name}" if namespace else name
        cameras.append(CameraTopics(inside, image, rest[0] if rest else camera_info_beside(image)))
    if len({camera.namespace for camera in cameras}) < len(cameras):
        raise ValueError(f"cameras: a name stands twice in {text!r}")
    return cameras


def with_header(info: CameraInfo, header: Header) -> CameraInfo:
    """The same calibration for another frame; its arrays are shared, not copied."""
    return CameraInfo(
        header=header,
        height=info.height,
        width=info.width,
        distortion_model=info.distortion_model,
        d=info.d,
        k=info.k,
        r=info.r,
        p=info.p,
        binning_x=info.binning_x,
        binning_y=info.binning_y,
        roi=info.roi,
    )


def scaled_to(
    info: CameraInfo,
    image_size: tuple[int, int],
    map_size: tuple[int, int],
    pitch: tuple[float, float] | None = None,
) -> CameraInfo:
    """CameraInfo of a map of the image; sizes are (width, height) in pixels.

    ``pitch``: width and height of a map's pixel in pixels of the image; None where the map covers
    the image, no more and no less.

    ``info`` describes the whole sensor; the image is its region of interest, binned. The result
    describes the map alone, so its binning and region of interest are left empty. Coordinates are
    of pixel centres: pixel u of n covers [u, u+1) / n of the view, hence the halves.
    """
    wide, high = pitch or (image_size[0] / map_size[0], image_size[1] / map_size[1])
    across, down = 1 / (wide * max(info.binning_x, 1)), 1 / (high * max(info.binning_y, 1))
    to_map = np.array(
        [
            [across, 0.0, (0.5 - info.roi.x_offset) * across - 0.5],
            [0.0, down, (0.5 - info.roi.y_offset) * down - 0.5],
            [0.0, 0.0, 1.0],
        ]
    )
    scaled = with_header(info, info.header)
    scaled.width, scaled.height = map_size
    scaled.k = _product(to_map, info.k)
    scaled.p = _product(to_map, info.p)
    scaled.binning_x = scaled.binning_y = 0
    scaled.roi = type(info.roi)()
    return scaled


def _product(to_map: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """``to_map`` (3,3) times a camera matrix of three rows, flattened. Zeros, which mean
    uncalibrated, stay zeros."""
    product: NDArray[np.float64] = to_map @ np.asarray(matrix).reshape(3, -1)
    return product.reshape(-1)
