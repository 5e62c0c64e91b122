"""A scaled CameraInfo must send a ray to the part of the map that covers the pixel it came from."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from ros_station import camera_info
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import Header

from unirestore_ros.msgs.camera_info import scaled_to, with_header


def project(matrix: NDArray[np.float64], point: NDArray[np.float64]) -> NDArray[np.float64]:
    across, down, depth = np.asarray(matrix).reshape(3, -1) @ point
    return np.array([across / depth, down / depth])


def test_the_formula_of_the_contract() -> None:
    info = camera_info(64, 48)
    scaled = scaled_to(info, (64, 48), (16, 8))
    assert scaled.k[0] == pytest.approx(50.0 * 16 / 64)
    assert scaled.k[2] == pytest.approx((31.5 + 0.5) * 16 / 64 - 0.5)
    assert scaled.k[4] == pytest.approx(52.0 * 8 / 48)
    assert scaled.k[5] == pytest.approx((23.5 + 0.5) * 8 / 48 - 0.5)
    assert scaled.p[0] == pytest.approx(48.0 * 16 / 64)
    assert scaled.p[2] == pytest.approx((31.0 + 0.5) * 16 / 64 - 0.5)
    assert scaled.p[3] == pytest.approx(-4.8 * 16 / 64)  # Tx, which is -fx' times the baseline
    assert scaled.p[5] == pytest.approx(49.0 * 8 / 48)
    assert scaled.p[6] == pytest.approx((23.0 + 0.5) * 8 / 48 - 0.5)
    assert list(scaled.k[[1, 3, 6, 7, 8]]) == [0, 0, 0, 0, 1]
    assert list(scaled.p[[1, 4, 7, 8, 9, 10, 11]]) == [0, 0, 0, 0, 0, 1, 0]
    assert (scaled.width, scaled.height) == (16, 8)


def test_what_is_copied() -> None:
    info = camera_info(64, 48)
    scaled = scaled_to(info, (64, 48), (16, 8))
    assert scaled.distortion_model == "plumb_bob"
    assert list(scaled.d) == list(info.d) and list(scaled.r) == list(info.r)
    assert list(info.k) == list(camera_info(64, 48).k)  # the camera's own is left alone


# A sensor of 128x96, of which the image shows a part, binned; each of them in pixels.
@pytest.mark.parametrize(
    ("binning", "roi", "image_size"),
    [
        ((0, 0), (0, 0, 0, 0), (128, 96)),
        ((1, 1), (0, 0, 128, 96), (128, 96)),
        ((2, 2), (0, 0, 0, 0), (64, 48)),
        ((1, 1), (32, 16, 64, 48), (64, 48)),
        ((2, 4), (32, 16, 64, 48), (32, 12)),
    ],
)
def test_binning_and_region_of_interest(
    binning: tuple[int, int], roi: tuple[int, int, int, int], image_size: tuple[int, int]
) -> None:
    info = camera_info(128, 96, binning_x=binning[0], binning_y=binning[1])
    info.roi = RegionOfInterest(x_offset=roi[0], y_offset=roi[1], width=roi[2], height=roi[3])
    map_size = (16, 8)
    scaled = scaled_to(info, image_size, map_size)
    region = (roi[2] or 128, roi[3] or 96)
    for point in ([0.1, -0.2, 1.0, 1.0], [-0.3, 0.25, 1.2, 1.0]):
        for mine, theirs, ray in (
            (scaled.k, info.k, np.array(point[:3])),
            (scaled.p, info.p, np.array(point)),
        ):
            # Where on the region, as a fraction of it; pixel u covers [u, u+1), so add a half.
            on_sensor = (project(theirs, ray) + 0.5 - roi[:2]) / region
            on_map = (project(mine, ray) + 0.5) / map_size
            np.testing.assert_allclose(on_map, on_sensor)
    assert (scaled.binning_x, scaled.binning_y) == (0, 0)
    assert scaled.roi == RegionOfInterest()


def test_uncalibrated_stays_uncalibrated() -> None:
    info = camera_info(64, 48)
    info.k, info.p = np.zeros(9), np.zeros(12)
    scaled = scaled_to(info, (64, 48), (16, 8))
    assert not scaled.k.any() and not scaled.p.any()


def test_with_header() -> None:
    info = camera_info(64, 48, binning_x=2, binning_y=2)
    info.roi.width = 12
    header = Header(frame_id="other")
    copy = with_header(info, header)
    assert copy.header == header and info.header != header
    copy.header = info.header
    assert copy == info
