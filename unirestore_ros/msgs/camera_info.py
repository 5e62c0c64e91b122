"""A camera's topics, and its CameraInfo for images made from its own: the same view, resized."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

COMPRESSED = "/compressed"


class InfoMismatch(ValueError):
    """A CameraInfo that is not of the images that it comes with; the text says what to do."""


class CameraTopics(NamedTuple):
    """A camera's topics and the namespace of the node that restores it."""

    namespace: str
    image: str
    camera_info: str


def camera_info_beside(image: str) -> str:
    """Return the topic on which a camera's driver publishes CameraInfo: `/front/image_raw` ->
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
    """Return the same calibration for another frame; its arrays are shared, not copied."""
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
    """Make the CameraInfo of a map of the image; sizes are (width, height) in pixels.

    ``pitch``: width and height of a map's pixel in pixels of the image; None where the map covers
    the image, no more and no less.

    ``info`` describes the whole sensor; which part of it the image shows, `_view_of` finds, and
    InfoMismatch says that none fits. The result describes the map alone, so its binning and region
    of interest are left empty. Coordinates are of pixel centres: pixel u of n covers [u, u+1) / n
    of the view, hence the halves.
    """
    wide, high = pitch or (image_size[0] / map_size[0], image_size[1] / map_size[1])
    view = _view_of(info, image_size)
    across, down = view.across / wide, view.down / high
    to_map = np.array(
        [
            [across, 0.0, (0.5 - view.left) * across - 0.5],
            [0.0, down, (0.5 - view.top) * down - 0.5],
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


class _View(NamedTuple):
    """Where an image lies on its sensor."""

    left: float
    top: float
    across: float
    """Pixels of the image to a pixel of the sensor."""
    down: float


def _view_of(info: CameraInfo, image_size: tuple[int, int]) -> _View:
    """Find the part of the sensor that an image of that size shows.

    It is the region of interest, binned, as the message is meant; or the whole sensor, where the
    image has its size although there is a region or binning; or either of them resized by whoever
    published the image. InfoMismatch where it is none of these.
    """
    binning = max(info.binning_x, 1), max(info.binning_y, 1)
    binned = 1 / binning[0], 1 / binning[1]
    roi, whole = info.roi, (info.width, info.height)
    if 0 in whole or not (np.any(info.k) or np.any(info.p)):
        return _View(roi.x_offset, roi.y_offset, *binned)  # says nothing that could not fit
    region = (roi.width, roi.height) if roi.width and roi.height else whole
    if all(abs(r * b - i) < 1 for r, b, i in zip(region, binned, image_size, strict=True)):
        return _View(roi.x_offset, roi.y_offset, *binned)
    if whole == image_size:
        return _View(0, 0, 1.0, 1.0)
    for part, left, top in ((region, roi.x_offset, roi.y_offset), (whole, 0, 0)):
        across, down = image_size[0] / part[0], image_size[1] / part[1]
        # Sides are whole pixels: the longer scale is off by at most one of the image's.
        if abs(across - down) * min(part) <= 1.0:
            return _View(left, top, across, down)
    raise InfoMismatch(
        f"the CameraInfo is of {info.width}x{info.height} (region of interest {roi.width}x"
        f"{roi.height}, binning {info.binning_x}x{info.binning_y}), which does not fit images of"
        f" {image_size[0]}x{image_size[1]}: calibrate the camera at that size, or set its driver's"
        " camera_info_url to a calibration of the same aspect ratio"
    )


def _product(to_map: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply ``to_map`` (3,3) by a camera matrix of three rows, flattened. Zeros, which mean
    uncalibrated, stay zeros."""
    product: NDArray[np.float64] = to_map @ np.asarray(matrix).reshape(3, -1)
    return product.reshape(-1)
