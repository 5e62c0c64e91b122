"""`restore`: images, folders and videos through the real bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from unirestore_ros.engine import Engine, open_engine
from unirestore_ros.recordings.restore import main

SIZE = (480, 360)


def street(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (9, 12, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC))


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with open_engine("tiny") as opened:
        yield opened


def restored(engine: Engine, image: np.ndarray, task: str = "perception") -> np.ndarray:
    engine.run_trunk(np.ascontiguousarray(image[:, :, ::-1]))
    return np.array(engine.decode(task)[:, :, ::-1])


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("task", ["perception", "detection"])
def test_an_image_is_what_the_engine_makes_of_it(engine: Engine, tmp_path: Path, task: str) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), street(1))
    out = tmp_path / "out.png"
    assert main([str(tmp_path / "in.png"), str(out), "--task", task]) == 0
    assert np.array_equal(cv2.imread(str(out)), restored(engine, street(1), task))


def test_a_folder_keeps_its_names(engine: Engine, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name, seed in (("b.png", 1), ("a.png", 2)):
        cv2.imwrite(str(source / name), street(seed))
    assert main([str(source), str(tmp_path / "out")]) == 0
    assert left_in(tmp_path / "out") == ["a.png", "b.png"]
    assert np.array_equal(cv2.imread(str(tmp_path / "out" / "a.png")), restored(engine, street(2)))


def test_a_video_keeps_rate_and_length(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "in.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, SIZE)
    for seed in range(3):
        writer.write(street(seed))
    writer.release()
    assert main([str(tmp_path / "in.mp4"), str(tmp_path / "out.mp4")]) == 0
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == 25.0
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    capture.release()


def test_images_of_any_size_keep_it(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    sizes = {"a.png": (480, 360), "b.png": (640, 480), "c.png": (322, 200), "d.png": (960, 540)}
    for name, size in sizes.items():
        cv2.imwrite(str(source / name), street(1, size))
    assert main([str(source), str(tmp_path / "out")]) == 0
    for name, (width, height) in sizes.items():
        assert cv2.imread(str(tmp_path / "out" / name)).shape == (height, width, 3)


def test_a_size_out_of_range_is_refused_with_the_reason_and_leaves_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    cv2.imwrite(str(source / "a.png"), street(1))
    cv2.imwrite(str(source / "b.png"), street(1, (640, 100)))
    assert main([str(source), str(tmp_path / "out")]) == 1
    assert "image 2: frames are 640x100: the longer side is over 4 times" in caplog.text
    assert left_in(tmp_path) == ["in"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["in.png", "out.gif"], "must end in"),
        (["absent.png", "out.png"], "there is no"),
        (["in.png", "out.png", "--task", "parking"], "has no task 'parking'"),
    ],
)
def test_what_cannot_be_done_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, words: list[str], reason: str
) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), street(1))
    source, out, *rest = words
    assert main([str(tmp_path / source), str(tmp_path / out), *rest]) == 1
    assert reason in caplog.text
    assert left_in(tmp_path) == ["in.png"]


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    cv2.imwrite(str(source / "a.png"), street(1))
    (tmp_path / "out").mkdir()
    assert main([str(source), str(tmp_path / "out")]) == 1
    assert left_in(tmp_path / "out") == []
