"""Feature maps out of their messages."""

from __future__ import annotations

import array
import sys
import types

import numpy as np
import pytest
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from unirestore_ros.heads import features
from unirestore_ros.heads.features import read_features, sound_bridge, view_features


def message_of(maps: NDArray[np.float32], padding: int = 0, big: bool = False) -> Image:
    height, width, channels = maps.shape
    rows = maps.astype(">f4" if big else "<f4").reshape(height, -1).view(np.uint8)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xA5)
    return Image(
        height=height,
        width=width,
        encoding=f"32FC{channels}",
        is_bigendian=big,
        step=padded.shape[1],
        data=array.array("B", padded.tobytes()),
    )


@pytest.mark.parametrize("padding", [0, 4, 12])
@pytest.mark.parametrize("big", [False, True])
def test_a_map_is_read_as_it_was_written(padding: int, big: bool) -> None:
    maps = np.random.default_rng(0).standard_normal((5, 7, 48)).astype(np.float32)
    read = view_features(message_of(maps, padding, big))
    np.testing.assert_array_equal(read, maps)
    again = read_features(message_of(maps, padding, big))
    np.testing.assert_array_equal(again, maps)
    assert again.flags.c_contiguous and again.dtype == np.float32


def test_an_unpadded_map_is_a_view() -> None:
    message = message_of(np.ones((2, 3, 4), np.float32))
    assert np.shares_memory(view_features(message), np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoding": "bgr8"}, "not that of a feature map"),
        ({"encoding": "32FC0"}, "not that of a feature map"),
        ({"encoding": "32FC99"}, "are no 3x2 32FC99"),
        ({"height": 9}, "are no 3x9"),
        ({"step": 4}, "step of 4"),
    ],
)
def test_what_is_no_map_is_refused(change: dict[str, object], words: str) -> None:
    message = message_of(np.ones((2, 3, 4), np.float32))
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ValueError, match=words):
        read_features(message)


def test_a_sound_bridge_reads_what_we_read() -> None:
    bridge = sound_bridge()
    if bridge is None:
        pytest.skip("no cv_bridge that works is installed")
    maps = np.random.default_rng(1).standard_normal((5, 7, 48)).astype(np.float32)
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(message_of(maps, 12)), maps)


class DeafToStep:
    """PyPI's cv_bridge in this: it takes the rows to lie one after another."""

    def imgmsg_to_cv2(self, message: Image) -> NDArray[np.float32]:
        flat = np.frombuffer(message.data, np.float32)
        return flat[: message.height * message.width * 5].reshape(message.height, message.width, 5)


class Broken:
    def imgmsg_to_cv2(self, message: Image) -> NDArray[np.float32]:
        raise TypeError("dtype")


@pytest.mark.parametrize("kind", [DeafToStep, Broken])
def test_an_unsound_bridge_is_not_used(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("cv_bridge")
    module.CvBridge = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cv_bridge", module)
    assert features.sound_bridge.__wrapped__() is None
