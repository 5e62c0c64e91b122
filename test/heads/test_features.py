"""Feature maps out of their messages."""

from __future__ import annotations

import array
import functools
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image

from unirestore_ros.engine import InferenceError
from unirestore_ros.heads import head_node
from unirestore_ros.heads.head_node import HeadNode, read_features


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
    read = read_features(message_of(maps, padding, big))
    np.testing.assert_array_equal(read, maps)
    assert read.flags.c_contiguous and read.dtype == np.float32


def test_an_unpadded_map_is_a_view() -> None:
    message = message_of(np.ones((2, 3, 4), np.float32))
    assert np.shares_memory(read_features(message), np.frombuffer(message.data, np.uint8))


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
def test_other_messages_are_refused(change: dict[str, object], words: str) -> None:
    message = message_of(np.ones((2, 3, 4), np.float32))
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ValueError, match=words):
        read_features(message)


@functools.cache
def sound_bridge() -> Any | None:
    """cv_bridge where it reads padded rows right with this NumPy and OpenCV (PyPI's does not)."""
    try:
        from cv_bridge import CvBridge

        maps = np.arange(30, dtype=np.float32).reshape(2, 3, 5)
        read = CvBridge().imgmsg_to_cv2(message_of(maps, 4))
    except (ImportError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return CvBridge() if np.array_equal(read, maps) else None


def test_a_sound_bridge_reads_what_we_read() -> None:
    bridge = sound_bridge()
    if bridge is None:
        pytest.skip("no cv_bridge that works is installed")
    maps = np.random.default_rng(1).standard_normal((5, 7, 48)).astype(np.float32)
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(message_of(maps, 12)), maps)


class HeadOf:
    """A head node of which only the way of a message is used: its head fails when told to."""

    def __init__(self, *results: Exception | float) -> None:
        self._results = list(results)
        self.said: list[str] = []
        self.published: list[float] = []
        self.head = SimpleNamespace(run=self._run, task="detection")
        self._status = SimpleNamespace(is_open=True)
        self._status_sizes: OrderedDict[int, Any] = OrderedDict()
        self._waiting: Image | None = None
        self._waiting_since: float | None = None

    def _run(self, features: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        result = self._results.pop(0)
        if isinstance(result, Exception):
            raise result
        return {"scores": np.array([0.5, result], np.float32)}

    def get_logger(self) -> Any:
        return SimpleNamespace(error=lambda text, **_: self.said.append(text))

    _awaits_status, _on_message = HeadNode._awaits_status, HeadNode._on_message

    def on_features(self, message: Image, outputs: dict[str, NDArray[np.float32]]) -> None:
        self.published.append(float(outputs["scores"][1]))


def test_a_head_survives_a_failure_and_publishes_the_next_frame() -> None:
    head: Any = HeadOf(InferenceError("heads/detection.onnx: out of memory"), 0.25)
    HeadNode._on_status(head, status_of())
    for _ in range(2):
        HeadNode._on_message(head, stamped_features(0))
    assert head.said == ["heads/detection.onnx: out of memory"]
    assert head.published == [0.25]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_not_published(wrong: float) -> None:
    head: Any = HeadOf(wrong, 0.25)
    HeadNode._on_status(head, status_of())
    for _ in range(2):
        HeadNode._on_message(head, stamped_features(0))
    assert len(head.said) == 1 and "not finite" in head.said[0]
    assert head.published == [0.25]


def test_features_wait_for_the_status_of_their_frame() -> None:
    head: Any = HeadOf(0.25)
    HeadNode._on_status(head, status_of(stamp=1, width="1280", height="720"))
    HeadNode._on_message(head, stamped_features(2))
    HeadNode._on_status(head, status_of(stamp=1, width="1280", height="720"))
    assert head.published == []
    HeadNode._on_status(head, status_of(stamp=2, width="1920", height="1080"))
    assert head.published == [0.25]
    assert head._status_sizes == {1: (1280, 720), 2: (1920, 1080)}


def test_a_node_that_never_sends_a_status_is_waited_for_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head: Any = HeadOf(0.25, 0.5)
    now = [0.0]
    monkeypatch.setattr(head_node.time, "monotonic", lambda: now[0])
    for now[0], published in ((0.0, 0), (0.9, 0), (1.1, 1), (1.2, 2)):
        HeadNode._on_message(head, stamped_features(int(10 * now[0])))
        assert len(head.published) == published


@pytest.mark.parametrize(
    ("width", "height"), [("", "9"), ("0", "9"), ("x", "9"), ("9", "9" * 5000), ("99999", "9")]
)
def test_a_status_without_a_possible_size_says_none(width: str, height: str) -> None:
    head: Any = HeadOf()
    HeadNode._on_status(head, status_of(mode="restored", width=width, height=height))
    assert head._status_sizes == {0: None}


@pytest.mark.parametrize(("width", "binning"), [(0, 0), (10**9, 0), (1, 2)])
def test_a_camera_info_without_a_possible_size_says_none(width: int, binning: int) -> None:
    head: Any = HeadOf()
    HeadNode._on_camera_info(head, CameraInfo(width=width, height=720, binning_x=binning))
    assert head._info_size is None


def status_of(stamp: int = 0, **values: str) -> DiagnosticArray:
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    message = DiagnosticArray(status=[DiagnosticStatus(values=pairs)])
    message.header.stamp.nanosec = stamp
    return message


def stamped_features(stamp: int) -> Image:
    message = message_of(np.zeros((2, 2, 4), np.float32))
    message.header.stamp.nanosec = stamp
    return message
