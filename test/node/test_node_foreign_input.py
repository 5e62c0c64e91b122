"""What a real node does with a bundle that it cannot use from its start on, and with compressed
frames that are hostile: the camera's image goes on."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from ros_fixtures import PATIENT, StartNode
from ros_miniature import frame
from ros_station import Station, image, values_of
from sensor_msgs.msg import CompressedImage

from unirestore_ros.engine.bundle import read_bundle
from unirestore_ros.engine.manifest import PARTS, REFERENCE_FRAME, REFERENCE_SAMPLES, BackendInfo
from unirestore_ros.engine.writing import write_bundle

pytestmark = pytest.mark.dds

BGR = frame(seed=1)[..., ::-1]


def corrupt(miniature: Path, folder: Path) -> Path:
    shutil.copytree(miniature, folder)
    part = folder / "onnxruntime" / "trunk.onnx"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    return folder


def of_another_gpu(miniature: Path, folder: Path) -> Path:
    """Compiled for a GPU that no machine has."""
    bundle = read_bundle(miniature)
    (folder / "tensorrt").mkdir(parents=True)
    for part in PARTS:
        shutil.copy2(miniature / "onnxruntime" / f"{part}.onnx", folder / "tensorrt")
        (folder / "tensorrt" / f"{part}.engine").write_bytes(b"compiled")
    (folder / "reference").mkdir()
    for name in (REFERENCE_FRAME, REFERENCE_SAMPLES):
        (folder / name).write_bytes(b"reference")
    info = BackendInfo("10.3.0", "A GPU of nobody", "1.0")
    manifest = dataclasses.replace(bundle.manifest, backends={"tensorrt": info})
    write_bundle(folder, manifest, bundle.prompts)
    return folder


@pytest.mark.parametrize(
    ("make", "backend", "told"),
    [
        (corrupt, "auto", "trunk.onnx does not have the SHA-256"),
        (of_another_gpu, "tensorrt", "fix: "),
    ],
)
def test_a_bundle_that_cannot_be_used_from_the_start(
    start_node: StartNode,
    context: Context,
    miniature: Path,
    tmp_path: Path,
    make: Callable[[Path, Path], Path],
    backend: str,
    told: str,
) -> None:
    bundle = make(miniature, tmp_path / "bundle")
    node = start_node(f"bundle:={bundle}", f"backend:={backend}", *PATIENT)
    station = Station(context, node.namespace)
    status = station.subscribe("status", DiagnosticArray)
    out = station.subscribe("image")
    answer = station.exchange(image(BGR, "bgr8"), out)
    assert answer is out.messages[0]
    np.testing.assert_array_equal(np.frombuffer(answer.data, np.uint8), BGR.reshape(-1))
    error = station.diagnosis(lambda s: s.level == DiagnosticStatus.ERROR, "an error")
    assert told in error.message and values_of(error)["mode"] == "camera"
    station.exchange(image(BGR, "bgr8"), out, status)
    assert {values_of(m.status[0])["mode"] for m in status.messages} == {"camera"}
    station.close()


def bomb() -> bytes:
    """A PNG of 4096x4096 pixels in some kilobytes."""
    return cv2.imencode(".png", np.zeros((4096, 4096), np.uint8))[1].tobytes()


def cut() -> bytes:
    return cv2.imencode(".jpg", BGR)[1].tobytes()[:400]


@pytest.mark.parametrize(
    ("form", "hostile", "told"),
    [("png", bomb, "bytes that says it has 4096x4096 pixels"), ("jpeg", cut, "cut off")],
)
def test_hostile_frames_between_good_ones(
    start_node: StartNode,
    context: Context,
    miniature: Path,
    form: str,
    hostile: Callable[[], bytes],
    told: str,
) -> None:
    """Every other frame: the good ones are restored all the same, in order, and drops are said."""
    node = start_node(f"bundle:={miniature}", "input_transport:=compressed", *PATIENT)
    station = Station(context, node.namespace)
    good, bad = CompressedImage(format="bgr8; jpeg compressed bgr8"), CompressedImage(format=form)
    good.data.frombytes(cv2.imencode(".jpg", BGR)[1].tobytes())
    bad.data.frombytes(hostile())
    station.restore_first(good, "image/compressed")
    status = station.subscribe("status", DiagnosticArray)
    out = station.subscribe("image")
    stamps: list[int] = []
    wrong: list[int] = []
    for _ in range(10):
        wrong.append(station.send(bad, "image/compressed"))
        stamps.append(station.send(good, "image/compressed"))
        station.wait(lambda: out.of(stamps[-1]), "the good frame")
        station.wait(lambda: status.of(stamps[-1]), "its status")
    assert not set(wrong) & set(out.stamps())
    assert out.stamps() == sorted(out.stamps())
    assert values_of(status.of(stamps[-1]).status[0])["mode"] == "restored"
    # Each of the others may have been replaced by the good one behind it: the queue holds one.
    station.send(bad, "image/compressed")
    said = station.diagnosis(lambda s: int(values_of(s)["dropped_malformed"]) > 0, "a drop")
    assert said.level == DiagnosticStatus.WARN and told in said.message
    station.close()
    assert node.end() == 0 and "Traceback" not in node.said()
