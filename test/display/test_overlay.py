"""Boxes and the road: read from messages, drawn on images."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from display_frames import flat, image
from rclpy.serialization import serialize_message

from unirestore_ros.display.overlay import (
    ROAD_COLOUR,
    Area,
    Box,
    draw_boxes,
    read_area,
    read_boxes,
    tint_road,
)
from unirestore_ros.msgs.cdr import UnsupportedFrame, view_image

STAMP = 5 * 10**9 + 7


def marker(points: list[tuple[float, float]], **more: Any) -> Any:
    """As visualization_msgs/Marker, which is not on every machine."""
    fields = {
        "header": SimpleNamespace(stamp=SimpleNamespace(sec=5, nanosec=7)),
        "type": 4,
        "action": 0,
        "points": [SimpleNamespace(x=x, y=y, z=0.0) for x, y in points],
        "text": "car 0.91",
        "color": SimpleNamespace(r=1.0, g=0.5, b=0.0, a=1.0),
    }
    return SimpleNamespace(**{**fields, **more})


CORNERS = [(10.0, 20.0), (30.0, 20.0), (30.0, 45.0), (10.0, 45.0), (10.0, 20.0)]


def test_a_line_strip_is_a_box() -> None:
    seen = read_boxes([marker([], action=3), marker(CORNERS)])
    assert seen is not None and seen.stamp_ns == STAMP
    assert seen.boxes == (Box(10, 20, 30, 45, "car 0.91", (0, 128, 255)),)
    assert seen.boxes[0].as_list() == [10, 20, 30, 45, "car 0.91", "#ff8000"]


def test_the_real_message() -> None:
    messages = pytest.importorskip("visualization_msgs.msg", reason="not on this ROS")
    points = pytest.importorskip("geometry_msgs.msg").Point
    one = messages.Marker(type=messages.Marker.LINE_STRIP, text="sign 0.4")
    one.points = [points(x=x, y=y) for x, y in CORNERS]
    gone = messages.Marker(action=messages.Marker.DELETEALL)
    seen = read_boxes(messages.MarkerArray(markers=[gone, one]).markers)
    assert seen is not None and [box.text for box in seen.boxes] == ["sign 0.4"]


def test_no_detections_differ_from_no_markers() -> None:
    assert read_boxes([]) is None
    cleared = read_boxes([marker([], action=3)])
    assert cleared is not None and cleared.boxes == ()


@pytest.mark.parametrize("wrong", [math.inf, -math.inf, math.nan, 1e12, -1e300])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_box_with_an_impossible_corner_is_left_out_and_the_others_stay(
    wrong: float, axis: int
) -> None:
    corner = (wrong, 20.0) if axis == 0 else (10.0, wrong)
    seen = read_boxes([marker([corner, *CORNERS[1:]]), marker(CORNERS)])
    assert seen is not None and seen.refused == 1
    assert [box.left for box in seen.boxes] == [10.0]


def test_a_colour_that_is_no_number_is_none() -> None:
    odd = SimpleNamespace(r=math.nan, g=math.inf, b=-1e30, a=1.0)
    seen = read_boxes([marker(CORNERS, color=odd)])
    assert seen is not None and seen.boxes[0].colour == (0, 255, 0)


def test_boxes_as_far_away_as_is_taken_can_be_drawn() -> None:
    pixels = flat(0, (200, 150))
    far = 32768.0
    for left, right in ((-far, far), (far, far), (-far, -far)):
        draw_boxes(pixels, [Box(left, left, right, right, "car 0.9", (255, 0, 0))], scale=12.0)
    assert (pixels[75] == 0).all()


def test_boxes_are_bounded() -> None:
    seen = read_boxes([marker(CORNERS)] * 1000)
    assert seen is not None and len(seen.boxes) == 100


def test_the_road_is_a_class_of_the_labels() -> None:
    labels = np.zeros((6, 8), np.uint8)
    labels[4:] = 3
    area = read_area(view_image(serialize_message(image(labels, STAMP, "mono8"))), road=3)
    assert area.stamp_ns == STAMP
    np.testing.assert_array_equal(area.mask, np.where(labels == 3, 255, 0))


def test_large_labels_are_made_small() -> None:
    labels = np.full((720, 1280), 3, np.uint8)
    area = read_area(view_image(serialize_message(image(labels, 0, "mono8"))), road=3)
    assert area.mask.shape == (180, 320) and (area.mask == 255).all()


def test_labels_in_colour_are_refused() -> None:
    view = view_image(serialize_message(image(flat(0))))
    with pytest.raises(UnsupportedFrame, match="mono8 is due"):
        read_area(view, road=3)


def lower_half() -> Area:
    mask = np.zeros((6, 8), np.uint8)
    mask[3:] = 255
    return Area(0, mask)


def test_only_the_road_is_tinted() -> None:
    pixels = flat(100)
    tint_road(pixels, lower_half())
    assert (pixels[:20] == 100).all()
    expected = [round(0.65 * 100 + 0.35 * level) for level in ROAD_COLOUR]
    assert np.abs(pixels[40].astype(int) - expected).max() <= 1


def test_no_road_no_tint() -> None:
    pixels = flat(100)
    tint_road(pixels, Area(0, np.zeros((6, 8), np.uint8)))
    assert (pixels == 100).all()


def test_the_pages_tint_is_transparent_where_there_is_no_road() -> None:
    tint = cv2.imdecode(np.frombuffer(lower_half().png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (tint[:3, :, 3] == 0).all()
    assert (tint[3:, :, 3] == round(255 * 0.35)).all()
    assert (tint[3:, :, :3] == ROAD_COLOUR).all()


def test_boxes_are_drawn_at_their_place() -> None:
    pixels = flat(0, (200, 150))
    draw_boxes(pixels, [Box(20, 30, 40, 50, "", (255, 0, 0))], scale=2.0)
    assert pixels[80, 40, 0] > 200, "left side at 2 x 20"
    assert (pixels[70:90, 50:70] == 0).all(), "empty inside"


def test_a_label_stays_on_the_image() -> None:
    pixels = flat(0, (200, 150))
    draw_boxes(pixels, [Box(190, -5, 230, 10, "pedestrian 0.5", (0, 255, 0))], scale=1.0)
    assert (pixels[5:15, 100:190, 1] == 255).mean() > 0.3
