"""CameraInfo of images made from a camera's: the same view, at another size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header


def with_header(info: CameraInfo, header: Header) -> CameraInfo:
    """The same calibration for another frame; shares what the calibration holds."""
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
    info: CameraInfo, image_size: tuple[int, int], map_size: tuple[int, int]
) -> CameraInfo:
    """The camera that sees as many pixels as a map has; sizes are (width, height).

    ``info`` describes the whole sensor; the image is its region of interest, binned. The result
    describes the map alone, so its binning and region of interest are left empty. Coordinates are
    of pixel centres: pixel u of n covers [u, u+1) / n of the view, hence the halves.
    """
    across = map_size[0] / (image_size[0] * max(info.binning_x, 1))
    down = map_size[1] / (image_size[1] * max(info.binning_y, 1))
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


class ScaledInfo:
    """A camera's CameraInfo at another size, computed again when any of it has changed."""

    def __init__(self) -> None:
        self._info = self._scaled = CameraInfo()
        self._sizes = (0, 0), (0, 0)

    def of(
        self, info: CameraInfo, image_size: tuple[int, int], map_size: tuple[int, int]
    ) -> CameraInfo:
        if self._info is not info or self._sizes != (image_size, map_size):
            self._info, self._sizes = info, (image_size, map_size)
            self._scaled = scaled_to(info, image_size, map_size)
        return self._scaled


def _product(to_map: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """``to_map`` times a camera matrix of three rows; zeros, which say uncalibrated, stay zeros."""
    product: NDArray[np.float64] = to_map @ np.asarray(matrix).reshape(3, -1)
    return product.reshape(-1)
