"""From the outputs of a detection head to boxes and their messages."""

from __future__ import annotations

import types

import numpy as np
import pytest
from numpy.typing import NDArray
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from unirestore_ros.heads.detection_head import (
    MAX_DETECTIONS,
    Detection,
    decode_detections,
    draw_detections,
    make_markers,
    make_vision_detections,
    vision_messages,
)

CLASSES = ("car", "sign")
Maps = tuple[NDArray[np.float32], NDArray[np.float32]]
SIZE = (40, 24)  # of the image: cells of 4x4 pixels


def maps(*things: tuple[int, int, int, float, tuple[float, float, float, float]]) -> Maps:
    scores, boxes = np.zeros((6, 10, 2), np.float32), np.zeros((6, 10, 4), np.float32)
    for row, column, kind, score, box in things:
        scores[row, column, kind], boxes[row, column] = score, box
    return scores, boxes


def test_boxes_come_in_pixels_the_best_first_within_the_image() -> None:
    scores, boxes = maps((1, 2, 0, 0.5, (1, 0.5, 3, 2)), (4, 8, 1, 0.9, (7, 3, 12, 5)))
    found = decode_detections(scores, boxes, CLASSES, SIZE, 0.3)
    assert found == [
        Detection("sign", pytest.approx(0.9), 28, 12, 40, 20),
        Detection("car", pytest.approx(0.5), 4, 2, 12, 8),
    ]


def test_weak_ones_are_left_out() -> None:
    scores, boxes = maps((1, 2, 0, 0.29, (1, 1, 3, 2)))
    assert decode_detections(scores, boxes, CLASSES, SIZE, 0.3) == []
    scores, boxes = maps()
    assert decode_detections(scores, boxes, CLASSES, SIZE, 0.01) == []


def test_a_repeat_goes_and_another_class_in_its_place_stays() -> None:
    box, near = (1, 1, 5, 4), (1.2, 1, 5.2, 4)
    scores, boxes = maps((1, 2, 0, 0.8, box), (3, 3, 0, 0.6, near), (2, 4, 1, 0.5, box))
    found = decode_detections(scores, boxes, CLASSES, SIZE, 0.3)
    assert [(one.name, round(one.score, 1)) for one in found] == [("car", 0.8), ("sign", 0.5)]


def test_detections_are_bounded() -> None:
    scores = np.full((20, 20, 1), 0.5, np.float32)
    v, u = np.mgrid[:20, :20].astype(np.float32)
    boxes = np.stack([u, v, u + 1, v + 1], axis=2)
    assert len(decode_detections(scores, boxes, ("car",), (80, 80), 0.3)) == MAX_DETECTIONS


def test_markers_are_closed_strips_after_one_that_deletes() -> None:
    header = Header(frame_id="camera_optical")
    array = make_markers([Detection("car", 0.876, 4, 2, 12, 8)], header)
    first, box = array.markers
    assert first.action == Marker.DELETEALL
    assert (box.type, box.action) == (Marker.LINE_STRIP, Marker.ADD)
    assert (box.header.frame_id, box.ns, box.text) == ("camera_optical", "car", "car 0.88")
    corners = [(p.x, p.y) for p in box.points]
    assert corners == [(4, 2), (12, 2), (12, 8), (4, 8), (4, 2)]
    assert len(make_markers([], header).markers) == 1


def test_drawing_stays_in_the_image_and_marks_the_box() -> None:
    image = np.zeros((24, 40, 3), np.uint8)
    draw_detections(image, [Detection("car", 0.9, 4, 2, 12, 8)])
    assert image[2:9, 4].any() and not image[15:, 30:].any()


def test_vision_msgs_carry_the_same() -> None:
    kinds = vision_messages()
    if kinds is None:
        pytest.skip("vision_msgs is not installed")
    assert isinstance(kinds, types.ModuleType)
    array = make_vision_detections(kinds, [Detection("car", 0.5, 4, 2, 12, 8)], Header())
    (one,) = array.detections
    assert (one.bbox.center.position.x, one.bbox.center.position.y) == (8, 5)
    assert (one.bbox.size_x, one.bbox.size_y) == (8, 6)
    assert one.results[0].hypothesis.class_id == "car"
