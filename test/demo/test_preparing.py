"""What becomes of an INPUT, and of the synthetic drive, before it is played."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from unirestore_ros.demo.errors import DemoError
from unirestore_ros.demo.prepare import check_space, spool_input
from unirestore_ros.demo.rendering import shares, spool_drive
from unirestore_ros.recordings.degradation import degradation
from unirestore_ros.recordings.errors import MediaError
from unirestore_ros.recordings.sources import open_source
from unirestore_ros.synthetic import corruptions, driving, mixtures
from unirestore_ros.synthetic.drive import demo_frames
from unirestore_ros.synthetic.programme import STRETCHES

SIZE = (64, 48)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(4):
        noise = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
        assert cv2.imwrite(str(folder / f"{index}.png"), noise)
    return folder


def test_input_is_played_as_it_is(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    spool = spool_input(open_source(pictures), tmp_path / "spool", SIZE, 5.0, 0, "pictures")
    assert len(spool) == 4
    assert spool.camera(0).shape == (48, 64, 3)
    assert not any(entry.has_clean for entry in spool.entries)
    assert [entry.offset_ns for entry in spool.entries] == [0, 2 * 10**8, 4 * 10**8, 6 * 10**8]
    assert "scaled from 160x120 to 64x48" in caplog.text


def test_limit_is_kept_and_said(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    spool = spool_input(open_source(pictures), tmp_path / "spool", SIZE, 5.0, 3, "pictures")
    assert len(spool) == 3
    assert "the first 3 of 4 frames" in caplog.text


def test_degraded_input_keeps_its_clean_frames(pictures: Path, tmp_path: Path) -> None:
    degrade = degradation("fog", 3)
    source = open_source(pictures)
    spool = spool_input(source, tmp_path / "spool", SIZE, 5.0, 0, "fog", degrade)
    assert all(entry.has_clean for entry in spool.entries)
    clean = spool.clean(1)
    expected = driving.degrade(
        np.ascontiguousarray(clean[..., ::-1]), "fog", 3, driving.frame_rng("demo", "fog", 1)
    )
    assert (spool.camera(1) == expected[..., ::-1]).all()


def test_every_driving_degradation_has_its_name() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for name in (*driving.DEGRADATIONS, *mixtures.MIXTURES):
        assert degradation(name, 3)(frame, 0).shape == frame.shape


def test_corruptions_of_the_benchmark_have_theirs() -> None:
    pytest.importorskip("imagecorruptions")
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name in ("gaussian_noise", "imagenet_c/fog"):
        bare = name.rpartition("/")[2]
        expected = corruptions.corrupt(frame, bare, 2, "demo 7")
        assert (degradation(name, 2)(frame, 7) == expected).all()


def test_unknown_degradation_is_refused_with_the_likely_one() -> None:
    with pytest.raises(MediaError, match=r"no degradation 'fogg'. Did you mean fog\?"):
        degradation("fogg", 3)


def test_source_without_frames_is_refused(tmp_path: Path) -> None:
    class Nothing:
        description = "nothing"
        length = None

        def frames(self) -> object:
            return iter(())

    with pytest.raises(DemoError, match="no frame"):
        spool_input(Nothing(), tmp_path / "spool", SIZE, 5.0, 0, "x")


def test_too_little_room_is_told_beforehand(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="set TMPDIR to a larger disk"):
        check_space(tmp_path, 10**12, SIZE)
    check_space(tmp_path, None, SIZE)


@pytest.mark.parametrize(("count", "processes"), [(10, 1), (10, 2), (11, 3), (2, 4)])
def test_shares_are_all_there_is(count: int, processes: int) -> None:
    parts = shares(count, processes)
    assert [index for part in parts for index in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_drive_is_the_programme_rendered_in_parts(tmp_path: Path) -> None:
    count = len(STRETCHES) + 1
    spool = spool_drive(tmp_path / "spool", SIZE, 5.0, count)
    programme = list(demo_frames(count, SIZE))
    assert [entry.stretch for entry in spool.entries] == [frame.stretch for frame in programme]
    for index in (0, count - 1):
        assert (spool.clean(index) == programme[index].clean[..., ::-1]).all()
        assert (spool.camera(index) == programme[index].degraded[..., ::-1]).all()
    assert spool.entries[-1].offset_ns == pytest.approx((count - 1) * 2 * 10**8)


def test_too_few_frames_for_the_drive(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="--frames 2 is too few"):
        spool_drive(tmp_path / "spool", SIZE, 5.0, 2)
