"""A scaled CameraInfo must send a ray to the part of the map that covers the pixel it came from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from ros_station import camera_info
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header

from unirestore_ros.msgs.camera_info import InfoMismatch, scaled_to, with_header


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


def info_of(width: int, height: int, fx: float = 1000.0, **more: Any) -> CameraInfo:
    """A pinhole in the middle."""
    info = camera_info(width, height, **more)
    info.k = [fx, 0.0, (width - 1) / 2, 0.0, fx, (height - 1) / 2, 0.0, 0.0, 1.0]
    info.p = [fx, 0.0, (width - 1) / 2, 0.0, 0.0, fx, (height - 1) / 2, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


def test_an_info_of_another_resolution() -> None:
    """1280x720 for a 640x360 image: fx is 125 and not 250 at a map of 160x90."""
    scaled = scaled_to(info_of(1280, 720), (640, 360), (160, 90))
    assert scaled.k[0] == pytest.approx(125) and scaled.k[4] == pytest.approx(125)
    assert (scaled.k[2], scaled.k[5]) == pytest.approx((79.5, 44.5))
    assert (scaled.p[0], scaled.p[2]) == pytest.approx((125, 79.5))


def test_an_info_of_a_smaller_resolution() -> None:
    scaled = scaled_to(info_of(640, 360, 500.0), (1280, 720), (160, 90))
    assert scaled.k[0] == pytest.approx(125) and scaled.k[2] == pytest.approx(79.5)


def test_a_size_that_is_rounded_is_the_same_view() -> None:
    """As 1281 pixels binned by 2, or resized by 3."""
    assert scaled_to(info_of(1281, 720, binning_x=2, binning_y=2), (640, 360), (160, 90)).k[
        0
    ] == pytest.approx(125)
    assert scaled_to(info_of(1280, 720), (427, 240), (107, 60)).k[0] == pytest.approx(83.5, abs=0.3)


@pytest.mark.parametrize(
    "info",
    [
        info_of(1280, 720, binning_x=2, binning_y=2),
        info_of(640, 360, 500.0, binning_x=2, binning_y=2),
        info_of(640, 360, 500.0, roi=RegionOfInterest(x_offset=100, width=320, height=180)),
    ],
    ids=["as the message is meant", "of the binned image", "of the whole image"],
)
def test_binning_and_region_that_are_applied_already_or_not_at_all(info: CameraInfo) -> None:
    scaled = scaled_to(info, (640, 360), (160, 90))
    assert scaled.k[0] == pytest.approx(125) and scaled.k[2] == pytest.approx(79.5)


def test_a_region_that_is_resized() -> None:
    roi = RegionOfInterest(x_offset=320, y_offset=180, width=640, height=360)
    scaled = scaled_to(info_of(1280, 720, roi=roi), (320, 180), (160, 90))
    assert scaled.k[0] == pytest.approx(250) and scaled.k[2] == pytest.approx(79.5)


@pytest.mark.parametrize(
    ("info", "image_size"),
    [
        (info_of(1280, 720), (640, 480)),
        (info_of(640, 480), (640, 360)),
        (info_of(1280, 720, roi=RegionOfInterest(width=500, height=500)), (640, 480)),
        (info_of(1280, 720, binning_x=4, binning_y=4), (400, 300)),
    ],
)
def test_an_info_that_does_not_fit(info: CameraInfo, image_size: tuple[int, int]) -> None:
    with pytest.raises(InfoMismatch, match=f"does not fit images of {image_size[0]}x"):
        scaled_to(info, image_size, (160, 90))


def test_equidistant_with_five_coefficients_is_copied() -> None:
    info = info_of(640, 360)
    info.distortion_model, info.d = "equidistant", [0.1, 0.2, 0.3, 0.4, 0.0]
    scaled = scaled_to(info, (640, 360), (160, 90))
    assert scaled.distortion_model == "equidistant" and list(scaled.d) == list(info.d)


@pytest.mark.parametrize("size", [(64, 48), (0, 0), (1280, 720)])
def test_all_zero_is_uncalibrated_whatever_the_size(size: tuple[int, int]) -> None:
    scaled = scaled_to(CameraInfo(width=size[0], height=size[1]), (64, 48), (16, 8))
    assert not scaled.k.any() and not scaled.p.any() and len(scaled.d) == 0
    assert (scaled.width, scaled.height) == (16, 8)


def test_without_a_size_of_its_own_it_is_the_images() -> None:
    info = info_of(0, 0)
    info.k[2], info.k[5] = 319.5, 179.5
    scaled = scaled_to(info, (640, 360), (160, 90))
    assert scaled.k[0] == pytest.approx(250) and scaled.k[2] == pytest.approx(79.5)
