"""From logits to labels and colours."""

from __future__ import annotations

import cv2
import numpy as np

from unirestore_ros.heads.segmentation_head import likeliest_classes, palette
from unirestore_ros.tasks import SEGMENTATION_COLOURS


def test_labels_are_the_likeliest_class() -> None:
    logits = np.random.default_rng(0).standard_normal((9, 12, 11)).astype(np.float32)
    np.testing.assert_array_equal(likeliest_classes(logits), logits.argmax(axis=2))


def test_enlarged_labels_are_those_of_enlarged_logits() -> None:
    logits = np.random.default_rng(0).standard_normal((9, 12, 11)).astype(np.float32)
    whole = cv2.resize(logits, (48, 36))
    labels = likeliest_classes(logits, (48, 36))
    assert labels.shape == (36, 48) and labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, whole.argmax(axis=2))


def test_every_class_has_its_colour_and_a_new_one_is_white() -> None:
    colours = palette((*SEGMENTATION_COLOURS, "tram"))
    assert len({tuple(colour) for colour in colours}) == len(SEGMENTATION_COLOURS) + 1
    assert tuple(colours[-1]) == (255, 255, 255)
