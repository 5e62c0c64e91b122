"""The example consumers beside the node that they listen to, with the bundle that is shipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.parameter import Parameter
from ros_fixtures import PATIENT
from ros_station import Inbox, Station, image, stamp_of
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker, MarkerArray

from unirestore_ros.engine import Engine, open_engine
from unirestore_ros.engine.head import Head
from unirestore_ros.heads.detection_head import (
    Detection,
    decode_detections,
    make_markers,
    vision_messages,
)
from unirestore_ros.heads.segmentation_head import likeliest_classes, palette
from unirestore_ros.synthetic.drive import Drive
from unirestore_ros.synthetic.programme import DEMO_SEED
from unirestore_ros.tasks import UNLABELLED

pytestmark = [pytest.mark.dds, pytest.mark.slow]

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Open the bundle that the nodes use."""
    with open_engine("tiny", "onnxruntime") as engine:
        yield engine


@pytest.fixture(scope="module")
def scene(node: Any) -> tuple[Pixels, Pixels]:
    """RGB (H,W,3) and labels (H,W) of a street that training did not see.

    It is rendered while the nodes start.
    """
    frame = Drive(DEMO_SEED).frame(12.0)
    return frame.image, frame.labels


@pytest.fixture(scope="module")
def node(start_node: Callable) -> Any:
    """Start a node and both heads with the shipped bundle; a busy machine may be slow."""
    node = start_node("backend:=onnxruntime", *PATIENT)
    for name in ("segmentation_head", "detection_head"):
        start_node(namespace=node.namespace, command=name)
    return node


@pytest.fixture
def station(context: Context, node: Any) -> Iterator[Station]:
    station = Station(context, node.namespace)
    yield station
    station.close()


def head_topic(station: Station, topic: str, kind: type = Image) -> Inbox:
    return station.subscribe(f"{station.namespace}/{topic}", kind)


def pixels_of(message: Image) -> Pixels:
    pixels = np.frombuffer(message.data, np.uint8)
    return pixels.reshape(message.height, message.width, -1).squeeze()


def outputs_of(engine: Engine, rgb: Pixels, task: str) -> dict[str, np.ndarray]:
    engine.run_trunk(rgb)
    return Head(engine.bundle, task).run(engine.adapt(task))


def test_labels_are_the_heads_and_agree_with_the_truth(
    station: Station, engine: Engine, scene: tuple[Pixels, Pixels]
) -> None:
    rgb, truth = scene
    heard = head_topic(station, "segmentation_head/labels")
    colours = head_topic(station, "segmentation_head/image")
    answer = station.exchange(image(rgb, "rgb8"), heard)
    labels = pixels_of(answer)
    expected = likeliest_classes(
        outputs_of(engine, rgb, "segmentation")["logits"], engine.sizes.frame
    )
    assert (labels == expected).mean() > 0.999
    assert (answer.encoding, answer.header.frame_id) == ("mono8", "camera_optical")

    counted = truth < UNLABELLED
    commonest = np.bincount(truth[counted]).max() / counted.sum()
    assert (labels == truth)[counted].mean() > commonest + 0.15

    coloured = station.wait(lambda: colours.of(stamp_of(answer)), "colours of the same frame")
    classes = engine.bundle.manifest.heads["segmentation"].classes
    np.testing.assert_array_equal(pixels_of(coloured), palette(classes)[labels])


def test_boxes_are_the_heads_and_drawn_on_the_drivers_image(
    station: Station, engine: Engine, scene: tuple[Pixels, Pixels]
) -> None:
    rgb, _ = scene
    heard = head_topic(station, "detection_head/markers", MarkerArray)
    drawn = head_topic(station, "detection_head/image")
    answer = station.exchange(image(rgb, "rgb8"), FirstMarker(heard))
    found = boxes_of(engine, rgb)
    assert len(found) > 0
    expected = make_markers(found, answer.header)
    assert corners(answer.array) == pytest.approx(corners(expected), abs=0.1)

    picture = station.exchange(image(rgb, "rgb8"), drawn)
    restored = engine.decode("perception")[..., ::-1]
    changed = np.abs(pixels_of(picture).astype(int) - restored).max(axis=2) > 16
    assert 0.001 < changed.mean() < 0.5


def test_boxes_and_labels_fit_a_larger_camera_that_sends_no_camera_info(
    station: Station, engine: Engine, scene: tuple[Pixels, Pixels]
) -> None:
    rgb = cv2.resize(scene[0], (960, 720), interpolation=cv2.INTER_CUBIC)
    labels = head_topic(station, "segmentation_head/labels")
    markers = head_topic(station, "detection_head/markers", MarkerArray)
    answer = station.exchange(image(rgb, "rgb8"), FirstMarker(markers), labels)
    found = boxes_of(engine, rgb)
    assert max(one.bottom for one in found) > 360  # which the network, working at half, never says
    expected = make_markers(found, answer.header)
    assert corners(answer.array) == pytest.approx(corners(expected), abs=0.5)
    assert {(each.width, each.height) for each in labels.messages} == {(960, 720)}


def test_a_head_of_another_namespace_finds_the_size_beside_its_features(
    station: Station, start_node: Callable, scene: tuple[Pixels, Pixels]
) -> None:
    ours = "unirestore/segmentation/features"
    head = start_node(
        command="segmentation_head", remappings=(f"{ours}:={station.namespace}/{ours}",)
    )
    labels = station.subscribe(f"{head.namespace}/segmentation_head/labels", Image)
    rgb = cv2.resize(scene[0], (960, 720), interpolation=cv2.INTER_CUBIC)
    answer = station.exchange(image(rgb, "rgb8"), labels)
    assert (answer.width, answer.height) == (960, 720)


def test_vision_msgs_carry_the_boxes(
    station: Station, engine: Engine, scene: tuple[Pixels, Pixels]
) -> None:
    kinds = vision_messages()
    if kinds is None:
        pytest.skip("vision_msgs is not installed")
    rgb, _ = scene
    heard = head_topic(station, "detection_head/detections", kinds.Detection2DArray)
    answer = station.exchange(image(rgb, "rgb8"), heard)
    assert answer.header.frame_id == "camera_optical"
    names = [one.results[0].hypothesis.class_id for one in answer.detections]
    widths = [one.bbox.size_x for one in answer.detections]
    found = boxes_of(engine, rgb)
    assert sorted(names) == sorted(each.name for each in found)
    expected = [each.right - each.left for each in found]
    assert sorted(widths) == pytest.approx(sorted(expected), abs=0.1)


def boxes_of(engine: Engine, rgb: Pixels) -> list[Detection]:
    outputs = outputs_of(engine, rgb, "detection")
    classes = engine.bundle.manifest.heads["detection"].classes
    return decode_detections(outputs["scores"], outputs["boxes"], classes, engine.sizes.frame, 0.3)


def corners(array: MarkerArray) -> dict[tuple[str, int], float]:
    """Return coordinates by class, box and corner, which differ slightly with other threads."""
    boxes = sorted((m.ns, [v for p in m.points for v in (p.x, p.y)]) for m in array.markers)
    return {
        (f"{name} {i}", j): value
        for i, (name, values) in enumerate(boxes)
        for j, value in enumerate(values)
    }


def set_parameter(station: Station, node: str, name: str, value: object) -> bool:
    client: Any = station.node.create_client(
        SetParameters, f"{station.namespace}/{node}/set_parameters"
    )
    station.wait(client.service_is_ready, "the parameter service")
    wanted = [Parameter(name, value=value).to_parameter_msg()]
    future = client.call_async(SetParameters.Request(parameters=wanted))
    station.wait(future.done, "its answer")
    return bool(future.result().results[0].successful)


def test_boxes_can_be_drawn_on_the_features(station: Station, scene: tuple[Pixels, Pixels]) -> None:
    assert not set_parameter(station, "detection_head", "least_score", 0)
    assert set_parameter(station, "detection_head", "background", "features")
    drawn = head_topic(station, "detection_head/image")
    answer = station.exchange(image(scene[0], "rgb8"), drawn)
    assert (answer.width, answer.height) == (480, 360)
    picture = station.name("image")
    station.wait(lambda: station.node.count_subscribers(picture) == 0, "the head to unsubscribe")
    assert set_parameter(station, "detection_head", "background", "picture")


def test_features_are_subscribed_only_while_somebody_subscribes(station: Station) -> None:
    features = station.name("segmentation/features")
    head_topic(station, "segmentation_head/labels")
    station.wait(lambda: station.node.count_subscribers(features) == 1, "the head to subscribe")
    station.unsubscribe()
    station.wait(lambda: station.node.count_subscribers(features) == 0, "the head to unsubscribe")


def test_features_of_another_bundle_are_reported_and_survived(
    context: Context, start_node: Callable
) -> None:
    head = start_node(command="segmentation_head")
    station = Station(context, head.namespace)
    head_topic(station, "segmentation_head/labels")
    topic = "unirestore/segmentation/features"
    odd = Image(height=2, width=3, encoding="32FC4", step=48)
    odd.data.frombytes(bytes(96))
    station.wait(lambda: send_and_look(station, odd, topic, head), "its complaint")
    assert head.process.poll() is None
    station.close()


def send_and_look(station: Station, message: Image, topic: str, head: Any) -> bool:
    station.send(message, topic)
    station.pause(0.2)
    return "takes features of 48 channels, not (2, 3, 4)" in head.said()


@pytest.mark.parametrize(
    ("bundle", "words"),
    [("nowhere", "no folder of that name"), ("MINIATURE", "it has no head for detection")],
)
def test_a_bundle_without_the_head_ends_it_with_the_fix(
    start_node: Callable, miniature: Path, bundle: str, words: str
) -> None:
    folder = str(miniature) if bundle == "MINIATURE" else bundle
    head = start_node(f"bundle:={folder}", command="detection_head")
    assert head.process.wait(90) == 2
    assert words in head.said() and "build engines/" in head.said()


class FirstMarker(Inbox):
    """Markers have a header each, and the array has none."""

    def __init__(self, inbox: Inbox) -> None:
        super().__init__()
        self._inbox = inbox

    def of(self, stamp: int) -> Any:
        for array in self._inbox.messages:
            if stamp_of(array.markers[0]) == stamp:
                return Stamped(array)
        return None


class Stamped:
    def __init__(self, array: MarkerArray) -> None:
        assert array.markers[0].action == Marker.DELETEALL
        self.array, self.header = array, array.markers[0].header
