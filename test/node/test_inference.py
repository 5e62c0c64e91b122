"""The engine as the node sees it: what it takes and lacks, and what follows a fault."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from rclpy.serialization import serialize_message
from ros_miniature import (
    HEIGHT,
    TRUNK_FAILS,
    WIDTH,
    expected_features,
    expected_image,
    write_miniature,
)
from ros_miniature import frame as scene
from ros_station import image

from unirestore_ros.engine import BundleError, EngineOutput, InferenceError
from unirestore_ros.evaluate.engine_faults import EngineFaults
from unirestore_ros.msgs.camera_frame import CameraFrame, read_frame
from unirestore_ros.msgs.cdr import MalformedMessage
from unirestore_ros.node.engine_process import EngineLost
from unirestore_ros.node.inference import Inference, RestartDelay
from unirestore_ros.node.parameters import Parameters

LIMIT_S = 60.0
IMAGE = EngineOutput("image", "perception")


def frame(width: int = WIDTH, height: int = HEIGHT, encoding: str = "rgb8") -> CameraFrame:
    message = image(np.zeros((height, width, 3), np.uint8), encoding)
    return read_frame(serialize_message(message), False, 0.0, 0)


def named(folder: Path) -> Parameters:
    return dataclasses.replace(Parameters(), bundle=str(folder), threads=1)


@pytest.fixture
def inference(miniature: Path) -> Iterator[Inference]:
    inference = Inference()
    inference.open(named(miniature))
    yield inference
    inference.close()


def wait(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def process_of(inference: Inference) -> int:
    assert inference.pid is not None
    return inference.pid


def test_open(inference: Inference) -> None:
    assert inference.state.problem is None and inference.state.bundle == "miniature"
    assert inference.state.why_not(frame()) is None
    assert inference.state.is_ready_for(frame())
    assert inference.state.missing(("segmentation", "detection")) is None


def test_a_size_that_no_bundle_takes_is_named(inference: Inference) -> None:
    assert "the longer side is over 4 times the shorter" in str(
        inference.state.why_not(frame(400, 80))
    )


def test_another_size_needs_a_moment(inference: Inference) -> None:
    other = frame(80, 64)
    assert inference.state.why_not(other) is None and not inference.state.is_ready_for(other)
    inference.get_ready(other, LIMIT_S)
    assert inference.state.is_ready_for(other) and not inference.state.is_ready_for(frame())


def test_another_encoding_is_named(inference: Inference) -> None:
    assert "encoding '32FC3' is depth or another measurement" in str(
        inference.state.why_not(frame(encoding="32FC3"))
    )


def test_missing_tasks_are_named_with_the_command(inference: Inference, miniature: Path) -> None:
    assert inference.state.missing(("detection", "lane_marks", "parking")) == (
        "the bundle miniature has no prompt for lane_marks, parking: python -m unirestore_ros build"
        f" --add-prompt lane_marks=FILE --add-prompt parking=FILE {miniature}"
    )


def test_a_refused_bundle_leaves_the_one_before(inference: Inference, tmp_path: Path) -> None:
    before, process = inference.state, process_of(inference)
    with pytest.raises(BundleError):
        inference.open(named(tmp_path / "nowhere"))
    assert inference.state is before and process_of(inference) == process


def test_without_a_bundle_every_frame_is_refused(tmp_path: Path) -> None:
    inference = Inference()
    with pytest.raises(BundleError):
        inference.open(named(tmp_path / "nowhere"))
    assert "there is no such folder" in str(inference.state.problem)
    assert inference.pid is None
    assert inference.state.why_not(frame()) == inference.state.problem
    assert inference.state.missing(("detection",)) is None
    assert not inference.restart_is_due()


def test_the_drivers_prompt_is_needed(tmp_path: Path) -> None:
    folder = write_miniature(tmp_path / "machines", tasks=("segmentation",))
    with pytest.raises(BundleError, match=r"no prompt for perception; fix: .*--add-prompt"):
        Inference().open(named(folder))


def test_a_new_bundle_takes_the_place(inference: Inference, tmp_path: Path) -> None:
    before = process_of(inference)
    inference.open(named(write_miniature(tmp_path / "larger", size=(80, 64))))
    assert inference.state.is_ready_for(frame(80, 64))
    assert process_of(inference) != before


def test_outputs_come_in_the_order_in_which_they_were_asked_for(inference: Inference) -> None:
    rgb = scene(seed=1)
    outputs = [EngineOutput("features", "detection"), IMAGE]
    results = inference.run(rgb, outputs, Parameters())
    seen = {output: array.copy() for output, array in results}
    assert list(seen) == outputs
    np.testing.assert_allclose(seen[outputs[0]], expected_features(rgb, "detection"), atol=1e-3)
    np.testing.assert_array_equal(seen[outputs[1]], expected_image(rgb))


def test_a_process_that_is_killed_is_replaced(inference: Inference, miniature: Path) -> None:
    os.kill(process_of(inference), signal.SIGKILL)
    with pytest.raises(EngineLost):
        list(inference.run(scene(), [IMAGE], Parameters()))
    assert inference.state.problem == (
        "the engine process was ended by SIGKILL; it is started again in 1 s"
    )
    wait(inference.restart_is_due, "the time of the next start")
    assert not inference.restart_is_due()
    inference.open(named(miniature))
    ((_, restored),) = inference.run(scene(), [IMAGE], Parameters())
    np.testing.assert_array_equal(restored, expected_image(scene()))


def test_an_end_that_nobody_waits_for_is_noticed(inference: Inference) -> None:
    assert inference.watch(0) is None
    os.kill(process_of(inference), signal.SIGKILL)
    wait(lambda: "ended by SIGKILL" in str(inference.watch(0)), "the end")
    assert inference.watch(0) is None, "the end is reported once"
    with pytest.raises(BundleError):
        inference.open(named(Path("/nowhere")))
    assert "there is no such folder" in str(inference.state.problem)


def test_growth_past_the_limit_ends_the_process(inference: Inference) -> None:
    assert inference.watch(100_000) is None
    wait(lambda: "over engine_memory_limit_mb (1)" in str(inference.watch(1)), "the limit")


def test_frames_that_fail_in_a_row_are_a_fault(miniature: Path) -> None:
    lost: list[str] = []
    inference = Inference(lost.append)
    parameters = dataclasses.replace(named(miniature), backend="onnxruntime")
    inference.open(parameters)

    def run(failing: int = 0) -> None:
        list(inference.run(scene(failing=failing), [IMAGE], parameters))

    for _ in range(2):  # a good frame between them: no fault
        for _ in range(2):
            with pytest.raises(InferenceError):
                run(TRUNK_FAILS)
        run()
    for _ in range(2):
        with pytest.raises(InferenceError):
            run(TRUNK_FAILS)
    with pytest.raises(EngineLost):
        run(TRUNK_FAILS)
    problem = str(inference.state.problem)
    assert problem.startswith("3 frames in a row failed: onnxruntime/trunk.onnx: ")
    assert problem.endswith("; it is started again in 1 s") and lost == [problem]
    wait(inference.restart_is_due, "the time of the next start")
    inference.open(parameters)
    run()
    inference.close()


def test_files_that_do_not_decode_are_no_fault(inference: Inference) -> None:
    process, size = process_of(inference), (WIDTH, HEIGHT)
    file = np.asarray(cv2.imencode(".png", scene()[..., ::-1])[1]).reshape(-1)
    for _ in range(4):
        with pytest.raises(MalformedMessage):
            inference.decode(file[: file.size // 4], size, Parameters())
    rgb = inference.decode(file, size, Parameters())
    ((_, restored),) = inference.run(rgb, [IMAGE], Parameters())
    np.testing.assert_array_equal(restored, expected_image(scene()))
    assert process_of(inference) == process and inference.state.problem is None


def test_a_process_that_is_killed_before_it_decodes_is_replaced(inference: Inference) -> None:
    os.kill(process_of(inference), signal.SIGKILL)
    with pytest.raises(EngineLost):
        inference.decode(np.zeros(10, np.uint8), (WIDTH, HEIGHT), Parameters())
    assert inference.pid is None
    wait(inference.restart_is_due, "the time of the next start")


def test_a_bundle_that_cannot_be_read_after_a_fault_is_tried_again(
    inference: Inference, miniature: Path
) -> None:
    """It may be the memory, or the GPU, that was not there."""
    os.kill(process_of(inference), signal.SIGKILL)
    wait(lambda: inference.watch(0), "the end")
    for delay in ("2", "4"):
        wait(inference.restart_is_due, "the time of the next start")
        with pytest.raises(BundleError):
            inference.open(named(Path("/nowhere")))
        assert "there is no such folder" in str(inference.state.problem)
        assert str(inference.state.problem).endswith(f"; it is started again in {delay} s")
    wait(inference.restart_is_due, "the time of the next start")
    inference.open(named(miniature))
    assert inference.state.problem is None
    os.kill(process_of(inference), signal.SIGKILL)


def test_a_size_that_the_engine_fails_on_is_a_fault(
    miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none of that size: the next process takes it."""
    faults = EngineFaults(tmp_path / "faults")
    monkeypatch.setattr(sys, "path", [str(faults.folder), *sys.path])
    inference = Inference()
    inference.open(named(miniature))
    faults.plant("raise ValueError")
    with pytest.raises(EngineLost):
        inference.get_ready(frame(80, 64), LIMIT_S)
    assert "not ready for 80x64 frames: ValueError: planted" in str(inference.state.problem)
    faults.remove()
    wait(inference.restart_is_due, "the time of the next start")
    inference.open(named(miniature))
    inference.get_ready(frame(80, 64), LIMIT_S)
    assert inference.state.is_ready_for(frame(80, 64))
    inference.close()


def test_a_loss_is_told_once_whoever_notices(miniature: Path) -> None:
    lost: list[str] = []
    inference = Inference(lost.append)
    inference.open(named(miniature))
    os.kill(process_of(inference), signal.SIGKILL)
    wait(lambda: inference.watch(0), "the end")
    with pytest.raises(EngineLost):
        list(inference.run(scene(), [IMAGE], Parameters()))
    assert len(lost) == 1
    inference.close()


def test_a_reload_takes_the_place_of_the_next_start(inference: Inference, miniature: Path) -> None:
    os.kill(process_of(inference), signal.SIGKILL)
    wait(lambda: inference.watch(0), "the end")
    inference.open(named(miniature))
    time.sleep(1.1)  # the next start would have been due after 1 s
    assert not inference.restart_is_due()


def test_nothing_is_opened_once_the_node_ends(inference: Inference, miniature: Path) -> None:
    inference.interrupt()
    with pytest.raises(EngineLost, match="the node ends"):
        inference.open(named(miniature))


def test_the_first_frame_may_take_as_long_as_a_load(
    miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It allocates, and may compile; so does the first of another size."""
    faults = EngineFaults(tmp_path / "faults")
    monkeypatch.setattr(sys, "path", [str(faults.folder), *sys.path])
    parameters = dataclasses.replace(named(miniature), hang_after_ms=300)
    inference = Inference()
    inference.open(parameters)

    def run_slowly(width: int, height: int) -> None:
        faults.plant("sleep 0.5")
        list(inference.run(np.zeros((height, width, 3), np.uint8), [IMAGE], parameters))
        faults.remove()

    run_slowly(WIDTH, HEIGHT)
    inference.get_ready(frame(80, 64), LIMIT_S)
    run_slowly(80, 64)
    with pytest.raises(EngineLost, match=r"did not answer within 0\.3 s"):
        run_slowly(80, 64)
    inference.close()


def test_restarts_come_later_after_each_fault() -> None:
    delay, now = RestartDelay(), 1000.0
    waits = []
    for _ in range(8):
        waits.append(delay.after_fault(now))
        now += waits[-1] + 5.0
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert delay.after_fault(now + 60.0) == 1
