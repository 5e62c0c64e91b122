"""OpenVINO on the shipped bundle, beside ONNX Runtime: the same network in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("openvino", reason="only where OpenVINO is installed")

from unirestore_ros.engine import Engine, open_engine
from unirestore_ros.engine.backends import openvino_backend
from unirestore_ros.evaluate.metrics import float_psnr
from unirestore_ros.synthetic.drive import demo_frames

SHIPPED = Path(__file__).parents[2] / "engines" / "tiny"
LEAST_DECIBELS = 45.0
Frame = NDArray[np.uint8]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with open_engine(SHIPPED, "openvino") as engine:
        yield engine


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """One of each degradation of the synthetic drive."""
    return [frame.degraded for frame in demo_frames(5)]


def results(engine: Engine, frame: Frame) -> dict[str, tuple[bytes, bytes]]:
    engine.run_trunk(frame)
    return {t: (engine.decode(t).tobytes(), engine.adapt(t).tobytes()) for t in engine.tasks}


def test_it_computes_in_bfloat16_where_the_processor_does(engine: Engine) -> None:
    """As Linux names the instructions."""
    text = Path("/proc/cpuinfo").read_text(errors="replace")
    expected = "bf16" if "avx512_bf16" in text or "amx_bf16" in text else "fp32"
    assert engine.precision == dict.fromkeys(("trunk", "decoder", "adapter"), expected)


def test_it_agrees_with_onnxruntime(engine: Engine, frames: list[Frame]) -> None:
    with open_engine(SHIPPED, "onnxruntime") as exact:
        for frame in frames:
            exact.run_trunk(frame)
            engine.run_trunk(frame)
            assert (
                float_psnr(engine.decode("perception"), exact.decode("perception"), 255)
                > LEAST_DECIBELS
            )
            for task in ("segmentation", "detection"):
                reference = exact.adapt(task)
                span = float(np.ptp(reference))
                assert float_psnr(engine.adapt(task), reference, span) > LEAST_DECIBELS


def test_the_same_frame_gives_the_same_bits(engine: Engine, frames: list[Frame]) -> None:
    first = results(engine, frames[0])
    assert results(engine, frames[1]) != first
    assert results(engine, frames[0]) == first


def test_the_bits_of_a_task_do_not_depend_on_the_others(
    engine: Engine, frames: list[Frame]
) -> None:
    together = results(engine, frames[2])
    for task in engine.tasks:
        engine.run_trunk(frames[2])
        assert engine.adapt(task).tobytes() == together[task][1]
        assert engine.decode(task).tobytes() == together[task][0]


def test_one_thread_is_enough(frames: list[Frame]) -> None:
    with open_engine(SHIPPED, "openvino", threads=1) as engine:
        engine.run_trunk(frames[0])
        assert engine.decode("perception").shape == frames[0].shape


def test_what_was_compiled_is_kept_and_read_again(
    frames: list[Frame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = _restored(frames[0])
    cache = tmp_path / "unirestore_ros" / "openvino"
    blobs = sorted(cache.glob("*/*.blob"))
    assert len(blobs) == 3 and cache.stat().st_mode & 0o077 == 0
    written = [blob.stat().st_mtime_ns for blob in blobs]
    assert _restored(frames[0]) == first
    assert [blob.stat().st_mtime_ns for blob in sorted(cache.glob("*/*.blob"))] == written
    for blob in blobs:  # a disk that was full, a power cut
        blob.chmod(0o600)
        blob.write_bytes(blob.read_bytes()[:1000])
    assert _restored(frames[0]) == first


def test_a_folder_that_others_can_write_is_not_used(
    frames: list[Frame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = tmp_path / "unirestore_ros" / "openvino"
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    _restored(frames[0])
    assert not list(cache.rglob("*")) and "is not a folder of mode 0700" in caplog.text


def test_a_disk_that_cannot_be_written_costs_the_cache_alone(
    frames: list[Frame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "file"
    file.write_text("no folder can be made in it")
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    assert _restored(frames[0])
    assert "cannot be made, nothing is kept there" in caplog.text


def test_a_camera_of_ever_other_sizes_fills_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(openvino_backend, "KEPT_SIZES", 2)
    with open_engine(SHIPPED, "openvino", frame_size=(64, 64)) as engine:
        for side in (72, 80, 88):
            engine.pin(side, 64)
    folders = (tmp_path / "unirestore_ros" / "openvino").iterdir()
    # The decoder that gives a detail gain is not used: no frame is reduced.
    assert sorted(len(list(folder.glob("*.blob"))) for folder in folders) == [0, 2, 2, 2]


def _restored(frame: Frame) -> bytes:
    with open_engine(SHIPPED, "openvino") as engine:
        engine.run_trunk(frame)
        return engine.decode("perception").tobytes()
