"""The engine process: what it answers, and how each of its ends is named."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from decoder_faults import DecoderFaults
from ros_miniature import TRUNK_FAILS, expected_features, expected_image, frame

from unirestore_ros.engine import BundleError, EngineOutput, InferenceError
from unirestore_ros.engine.channel import ChannelError, SharedMemory
from unirestore_ros.evaluate.dds_measures import is_running
from unirestore_ros.evaluate.engine_faults import EngineFaults
from unirestore_ros.msgs.cdr import MalformedMessage
from unirestore_ros.node.engine_process import EngineLost, EngineProcess

IMAGE = EngineOutput("image", "perception")
FEATURES = EngineOutput("features", "segmentation")
LIMIT_S = 60.0


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineFaults:
    faults = EngineFaults(tmp_path / "faults")
    monkeypatch.setattr(sys, "path", [str(faults.folder), *sys.path])
    return faults


@pytest.fixture
def process(miniature: Path) -> Iterator[EngineProcess]:
    process = EngineProcess()
    opened(process, miniature)
    yield process
    process.close()


def opened(process: EngineProcess, bundle: Path) -> dict[str, object]:
    return process.open(LIMIT_S, bundle=str(bundle), backend="onnxruntime", device_id=0, threads=1)


def run(process: EngineProcess, rgb: np.ndarray, limit_s: float = LIMIT_S) -> np.ndarray:
    ((_, image),) = process.run(rgb, [IMAGE], limit_s)
    return image


def test_it_restores_frames_of_any_size(process: EngineProcess) -> None:
    for size in ((64, 48), (48, 48), (32, 64), (64, 48)):
        rgb = frame(seed=1, size=size)
        process.pin(*size, LIMIT_S)
        results = process.run(rgb, [IMAGE, FEATURES], LIMIT_S)
        output, image = next(results)
        assert output == IMAGE
        np.testing.assert_array_equal(image, expected_image(rgb))
        output, features = next(results)
        assert output == FEATURES
        np.testing.assert_allclose(features, expected_features(rgb, "segmentation"), atol=1e-3)
        assert next(results, None) is None


def test_a_frame_given_up_half_way_leaves_no_answer_behind(process: EngineProcess) -> None:
    one, other = frame(seed=1), frame(seed=2)
    next(process.run(one, [IMAGE, FEATURES], LIMIT_S))
    np.testing.assert_array_equal(run(process, other), expected_image(other))


def file_of(rgb: np.ndarray, kind: str = ".png") -> np.ndarray:
    return np.asarray(cv2.imencode(kind, rgb[..., ::-1])[1]).reshape(-1)


def without_pixels(file: np.ndarray) -> np.ndarray:
    """A PNG whose size and end are sound, and whose pixels are not."""
    start = file.tobytes().index(b"IDAT") + 4
    broken = file.copy()
    broken[start : start + 8] = 0
    return broken


def no_decoder_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *arguments: pytest.fail("decoded in the node"))


def test_it_decodes_and_restores_a_file(
    process: EngineProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = frame(seed=1), frame(seed=2)
    jpeg = file_of(other, ".jpg")
    stored = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))[..., ::-1]
    no_decoder_here(monkeypatch)
    for file, pixels in ((file_of(one), one), (jpeg, stored)):
        rgb = process.decode(file, (64, 48), LIMIT_S)
        np.testing.assert_array_equal(rgb, pixels)
        image = run(process, rgb)
        np.testing.assert_array_equal(image, expected_image(pixels))
        np.testing.assert_array_equal(rgb, pixels)  # for the guard, beside the image
    np.testing.assert_array_equal(run(process, one), expected_image(one))  # raw again


def test_a_decoded_frame_is_not_copied(
    process: EngineProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = process.decode(file_of(frame(seed=1)), (64, 48), LIMIT_S)
    monkeypatch.setattr(np, "copyto", lambda *arguments: pytest.fail("copied"))
    np.testing.assert_array_equal(run(process, rgb), expected_image(frame(seed=1)))


def test_a_file_that_does_not_decode_is_none_of_the_engines_faults(process: EngineProcess) -> None:
    rgb, pid = frame(seed=1), process.pid
    with pytest.raises(MalformedMessage, match="does not decode"):
        process.decode(without_pixels(file_of(rgb)), (64, 48), LIMIT_S)
    with pytest.raises(MalformedMessage, match="decodes to 64x48, its header says 48x64"):
        process.decode(file_of(rgb), (48, 64), LIMIT_S)
    decoded = process.decode(file_of(rgb), (64, 48), LIMIT_S)
    np.testing.assert_array_equal(run(process, decoded), expected_image(rgb))
    assert process.pid == pid and process.why_ended() is None


def test_files_do_not_fill_the_shared_memory(process: EngineProcess) -> None:
    """It holds the longest file, its pixels and the outputs, however many there were."""
    files = [file_of(frame(seed=seed), kind) for seed in range(5) for kind in (".png", ".jpg")]
    for _ in range(3):
        for file in files:
            run(process, process.decode(file, (64, 48), LIMIT_S))
    held = max(
        os.stat(path).st_size
        for path in Path(f"/proc/{process.pid}/fd").iterdir()
        if "unirestore_frames" in os.readlink(path)
    )
    least = max(file.size for file in files) + 2 * 64 * 48 * 3
    assert held < least + 2 * resource.getpagesize()


@pytest.mark.parametrize(
    ("fault", "told"),
    [("crash", "was ended by SIGSEGV"), ("hang", r"did not answer within 0\.5 s, and was ended")],
)
def test_a_decoder_takes_its_process_down_only(
    tmp_path: Path, miniature: Path, monkeypatch: pytest.MonkeyPatch, fault: str, told: str
) -> None:
    decoder = DecoderFaults(tmp_path / "decoder")
    monkeypatch.setattr(sys, "path", [str(decoder.folder), *sys.path])
    process = EngineProcess()
    opened(process, miniature)
    process.decode(file_of(frame()), (64, 48), LIMIT_S)
    assert decoder.decoders() == [process.pid]
    decoder.plant(fault)
    with pytest.raises(EngineLost, match=told):
        process.decode(file_of(frame()), (64, 48), 0.5 if fault == "hang" else LIMIT_S)
    process.close()


def test_no_memory_to_decode_is_the_engines_fault(process: EngineProcess) -> None:
    """A frame that was dropped for it would hide that each of them is."""
    file = file_of(np.random.default_rng(0).integers(0, 256, (4096, 4096, 3), np.uint8), ".jpg")
    process.decode(file, (4096, 4096), LIMIT_S)  # the shared memory is there now
    limit_memory(process, 1 << 20)
    with pytest.raises(EngineLost, match="MemoryError: no memory to decode 4096x4096 pixels"):
        process.decode(file, (4096, 4096), LIMIT_S)


def test_a_network_that_fails_does_not_end_the_process(process: EngineProcess) -> None:
    with pytest.raises(InferenceError, match=r"trunk\.onnx"):
        run(process, frame(failing=TRUNK_FAILS))
    np.testing.assert_array_equal(run(process, frame()), expected_image(frame()))


def test_a_bundle_that_cannot_be_used(tmp_path: Path) -> None:
    process = EngineProcess()
    with pytest.raises(BundleError, match=r"there is no such folder; fix: python -m"):
        opened(process, tmp_path / "nowhere")
    process.close()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("raise MemoryError", "the engine process ended with MemoryError: planted"),
        ("raise AttributeError", "the engine process ended with AttributeError: planted"),
        ("raise KeyError", "the engine process ended with KeyError: 'planted'"),
        ("crash", "the engine process was ended by SIGSEGV"),
        ("exit", "the engine process ended with exit status 3"),
        ("sleep 600", r"did not answer within 0\.5 s, and was ended"),
    ],
)
def test_each_end_is_named(
    faults: EngineFaults, process: EngineProcess, fault: str, told: str
) -> None:
    faults.plant(fault)
    with pytest.raises(EngineLost, match=told):
        run(process, frame(), limit_s=0.5 if fault.startswith("sleep") else LIMIT_S)
    assert process.why_ended() is not None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_a_signal_is_named(process: EngineProcess, number: signal.Signals) -> None:
    os.kill(process.pid, number)
    with pytest.raises(EngineLost, match=f"was ended by {number.name}"):
        run(process, frame())


def limit_memory(process: EngineProcess, more: int) -> None:
    """Let the process have no more than so many bytes of address space besides what it has."""
    in_use = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0])
    limit = in_use * os.sysconf("SC_PAGE_SIZE") + more
    resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, limit))


def test_out_of_memory(process: EngineProcess) -> None:
    """Address space ends: the frame does not fit the process any more, which it says."""
    limit_memory(process, 1 << 20)
    with pytest.raises((BundleError, EngineLost, InferenceError), match=r"(?i)memory|bad.?alloc"):
        for _ in range(3):
            process.pin(1280, 1024, LIMIT_S)
            run(process, frame(size=(1280, 1024)))


@pytest.mark.parametrize("kind", ["RuntimeError", "ValueError"])
def test_an_error_of_a_frame_is_the_frames(
    faults: EngineFaults, process: EngineProcess, kind: str
) -> None:
    """When such errors are the engine's, `Inference` decides."""
    faults.plant(f"raise {kind}")
    with pytest.raises(InferenceError, match=r"(trunk\.onnx|ValueError): planted"):
        run(process, frame())
    faults.remove()
    np.testing.assert_array_equal(run(process, frame()), expected_image(frame()))


def test_a_process_that_cannot_be_killed_holds_up_nobody(
    faults: EngineFaults, process: EngineProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an uninterruptible sleep. It is reaped once it has ended."""
    faults.plant("sleep 600")
    with monkeypatch.context() as undying:
        undying.setattr(subprocess.Popen, "kill", lambda self: None)
        began = time.monotonic()
        with pytest.raises(EngineLost, match=r"did not answer within 0\.5 s"):
            run(process, frame(), limit_s=0.5)
        process.close()
        assert time.monotonic() - began < 20.0  # and not 600: the bound is for a busy machine
    assert is_running(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    end = time.monotonic() + LIMIT_S
    while Path(f"/proc/{process.pid}").exists():
        assert time.monotonic() < end, "the process is not reaped"
        EngineProcess().close()


def test_a_fault_while_a_bundle_is_opened(faults: EngineFaults, miniature: Path) -> None:
    process = EngineProcess()
    faults.plant("raise RecursionError")
    with pytest.raises(EngineLost, match="RecursionError: planted"):
        opened(process, miniature)
    process.close()


def test_it_ends_with_the_node(miniature: Path) -> None:
    """Even with a node that is killed, and while it is stopped itself."""
    script = (
        "import sys, time; from unirestore_ros.node.engine_process import EngineProcess;"
        f"process = EngineProcess(); process.open(60, bundle={str(miniature)!r},"
        " backend='onnxruntime', device_id=0, threads=1);"
        "print(process.pid, flush=True); time.sleep(600)"
    )
    for stopped in (False, True):
        node = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert node.stdout is not None
        engine = int(node.stdout.readline())
        if stopped:
            os.kill(engine, signal.SIGSTOP)
        node.kill()
        node.wait()
        node.stdout.close()
        end = time.monotonic() + LIMIT_S
        while is_running(engine):
            assert time.monotonic() < end, "the engine process outlives the node"
            time.sleep(0.02)


def test_nothing_is_left_open(miniature: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for _ in range(3):
        process = EngineProcess()
        opened(process, miniature)
        run(process, frame())
        process.close()
    assert descriptors() == before


def test_shared_memory_takes_no_array_that_does_not_fit() -> None:
    memory = SharedMemory.create()
    first = memory.array(0, (4, 4, 3), np.uint8)
    first[:] = 7
    memory.array(4096, (512, 512), np.float32)[:] = 1.0  # grows; the first view stays
    assert (memory.array(0, (4, 4, 3), np.uint8) == 7).all() and (first == 7).all()
    for offset, shape in ((-64, (4, 4)), (1, (4, 4)), (0, (0, 4)), (0, (1 << 20, 1 << 20))):
        with pytest.raises(ChannelError):
            memory.array(offset, shape, np.float32)
    memory.close()
    memory.close()
