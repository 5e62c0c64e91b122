"""Where a real node has compressed frames decoded, and what a decoder that fails takes with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from decoder_faults import DecoderFaults
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from rclpy.context import Context
from ros_fixtures import PATIENT, StartNode
from ros_miniature import TRUNK_FAILS, expected_image, frame
from ros_process import NodeProcess
from ros_station import Inbox, Station, values_of
from sensor_msgs.msg import CompressedImage, Image

pytestmark = pytest.mark.dds

TOPIC = "image/compressed"
RGB = frame(seed=1)
BGR, RESTORED = RGB[..., ::-1], expected_image(RGB)[..., ::-1]


def png(bgr: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", bgr)[1].tobytes())


def without_pixels() -> bytes:
    """Its size and end are sound, and its pixels are not."""
    content = bytearray(png(BGR))
    start = content.index(b"IDAT") + 4
    content[start : start + 8] = bytes(8)
    return bytes(content)


def message(content: bytes) -> CompressedImage:
    made = CompressedImage(format="bgr8; png compressed bgr8")
    made.data.frombytes(content)
    return made


@pytest.fixture
def decoder(tmp_path: Path) -> DecoderFaults:
    return DecoderFaults(tmp_path / "decoder")


@pytest.fixture
def node(start_node: StartNode, miniature: Path, decoder: DecoderFaults) -> NodeProcess:
    path = os.pathsep.join(filter(None, [str(decoder.folder), os.environ.get("PYTHONPATH", "")]))
    parameters = (f"bundle:={miniature}", "input_transport:=compressed", *PATIENT)
    return start_node(*parameters, PYTHONPATH=path)


@pytest.fixture
def station(context: Context, node: NodeProcess) -> Iterator[Station]:
    """A camera whose frames the node restores."""
    station = Station(context, node.namespace)
    station.restore_first(message(png(BGR)), TOPIC)
    yield station
    station.close()
    node.end()


def pixels_of(answer: Image) -> NDArray[np.uint8]:
    return np.frombuffer(answer.data, np.uint8).reshape(answer.height, answer.width, 3)


@dataclass
class Viewer:
    """Sends frames of the camera, and receives what comes of each."""

    station: Station
    image: Inbox
    status: Inbox

    def send(self, bgr: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], str]:
        """Send a frame once; returns its image, BGR, and its mode."""
        stamp = self.station.send(message(png(bgr)), TOPIC)
        image = self.station.wait(lambda: self.image.of(stamp), "the frame")
        status = self.station.wait(lambda: self.status.of(stamp), "its status")
        return pixels_of(image), values_of(status.status[0])["mode"]


@pytest.fixture
def viewer(station: Station, decoder: DecoderFaults) -> Viewer:
    image, status = station.subscribe("image"), station.subscribe("status", DiagnosticArray)
    station.exchange(message(png(BGR)), image, status, topic=TOPIC)
    decoder.forget()
    return Viewer(station, image, status)


def test_in_restored_mode_the_engine_process_decodes(
    viewer: Viewer, node: NodeProcess, decoder: DecoderFaults
) -> None:
    expect(viewer.send(BGR), RESTORED, "restored")
    broken = viewer.station.send(message(without_pixels()), TOPIC)
    said = viewer.station.diagnosis(lambda s: values_of(s)["dropped_malformed"] == "1", "the drop")
    assert said.level == DiagnosticStatus.WARN
    assert values_of(said)["last_error"].endswith("the compressed image does not decode")
    expect(viewer.send(BGR), RESTORED, "restored")
    # A frame on which the network fails goes out as the camera's, which is decoded by then.
    failing = frame(seed=2, failing=TRUNK_FAILS)[..., ::-1]
    expect(viewer.send(failing), failing, "camera")
    expect(viewer.send(BGR), RESTORED, "restored")
    assert broken not in viewer.image.stamps()
    assert len(decoder.decoders()) >= 5
    (engine,) = set(decoder.decoders())  # the same throughout
    assert engine != node.process.pid


def expect(sent: tuple[NDArray[np.uint8], str], pixels: NDArray[np.uint8], mode: str) -> None:
    np.testing.assert_array_equal(sent[0], pixels)
    assert sent[1] == mode


@pytest.mark.parametrize("fault", ["crash", "killed"])
def test_a_decoder_that_dies_takes_the_engine_process_only(
    viewer: Viewer, node: NodeProcess, decoder: DecoderFaults, fault: str
) -> None:
    station = viewer.station
    decoder.plant("crash" if fault == "crash" else "hang")
    station.send(message(png(BGR)), TOPIC)
    station.wait(decoder.decoders, "the engine process to decode")
    (engine,) = set(decoder.decoders())
    if fault == "killed":
        os.kill(engine, signal.SIGKILL)
    cause = f"was ended by {'SIGSEGV' if fault == 'crash' else 'SIGKILL'}"
    station.wait(lambda: cause in node.said(), "the cause")
    decoder.remove()
    expect(viewer.send(BGR), BGR, "camera")
    assert set(decoder.decoders()) == {engine, node.process.pid}  # now the node must
    station.unsubscribe("image", "status")
    station.restore_first(message(png(BGR)), TOPIC)
    assert node.process.poll() is None
    (restarted,) = set(decoder.decoders()) - {engine, node.process.pid}
    os.kill(restarted, 0)
