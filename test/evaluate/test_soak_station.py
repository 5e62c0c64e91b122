"""What the soak's watch reads off an image of the display."""

from __future__ import annotations

import numpy as np
import pytest

from unirestore_ros.display.canvas import Scene, compose
from unirestore_ros.display.parameters import View
from unirestore_ros.display.selection import FrameStatus
from unirestore_ros.evaluate.soak_station import DISPLAY_SIZE, read_display, thumbnail


@pytest.mark.parametrize("size", [(480, 360), (322, 200), (64, 64)])
@pytest.mark.parametrize("status", [FrameStatus.RESTORED, FrameStatus.CAMERA])
def test_sign_and_scene_are_read(size: tuple[int, int], status: FrameStatus) -> None:
    rng = np.random.default_rng(0)
    scenes = rng.integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)
    images = [scene.repeat(60, 0).repeat(60, 1)[: size[1], : size[0]] for scene in scenes]
    shown = compose(Scene(View.RESTORED, status, "", images[0]), DISPLAY_SIZE)
    read, picture = read_display(shown, size)
    assert read is status
    right, wrong = (abs(thumbnail(picture) @ thumbnail(image)) for image in images)
    assert right > 0.9 and wrong < 0.5
